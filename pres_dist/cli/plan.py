"""`pres-dist plan`: estimate the cost of a run before it starts."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from pres_dist.cli.options import Argument, UserPath, parse_with_settings
from pres_dist.cli.terminable import terminable
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.exit_codes import NO_LAYOUT
from pres_dist.files import write_atomically
from pres_dist.planner.plan_config import PlanConfig

SECTIONS = ("preset", "data", "sampling", "memory", "model", "pres", "training")


class PlanOptions(PlanConfig):
    """Estimate memory, traffic, time and efficiency of a run, and recommend a layout.

    A layout is time slices x epochs x replicas, and the temporal batch. --nodes and --events, or
    --stream, are required, except with CONFIG --calibrate FILE, which measures this machine.
    """

    config: Annotated[UserPath | None, Argument("CONFIG", positional=True)] = None
    """YAML configuration of the model; TGN with preset best when unset."""
    json_file: Annotated[UserPath | None, Argument("FILE", name="--json")] = None
    """Also write the plan to this file."""


def main(argv: list[str]) -> int:
    """Plan a run, or calibrate this machine for plans."""
    options, settings = parse_with_settings("plan", PlanOptions, argv, SECTIONS)
    config = load_config(options.config, settings)
    for path in (options.calibrate, options.json_file):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"{path}: the folder to write to does not exist")
    with terminable():
        if options.calibrate is None:
            return _plan(config, options)

        from pres_dist.planner.calibrate import calibrate

        machine = calibrate(config, tell=lambda text: print(text, file=sys.stderr))
        write_atomically(options.calibrate, dump_yaml(machine, with_help=True))
        print(f"{options.calibrate}: {machine.name}")
    return 0


def _plan(config: RunConfig, options: PlanOptions) -> int:
    from pres_dist.console import result_console
    from pres_dist.planner.advice import make_planner
    from pres_dist.planner.failures import losses
    from pres_dist.planner.simulate import cluster_of, disturbed
    from pres_dist.planner.tables import (
        print_advice,
        print_disturbed,
        print_head,
        print_losses,
        to_json,
    )

    planner, notes = make_planner(config, options)
    advice, console = planner.advise(options.workers), result_console()
    print_head(planner, notes, console)
    rows, lossy = [], None
    if advice.best is not None:
        layout, machine = advice.best.layout, planner.machine
        advice.why.append(planner.batch_needed(layout, options.efficiency))
        if options.simulate:
            rows = disturbed(cluster_of(advice.best.cost, layout, machine))
            rest = options.mtbf_hours, options.restart_seconds
            lossy = losses(planner.workload, layout, machine, *rest)
    print_advice(advice, planner, console)
    if lossy is not None:
        print_disturbed(rows, console)
        print_losses(lossy, console)
    if options.json_file is not None:
        values = to_json(advice, planner, notes, rows, lossy)
        write_atomically(options.json_file, json.dumps(values, indent=1))
    return 0 if advice.best is not None else NO_LAYOUT
