"""`pres-dist plan`: estimate the cost of a run before it starts."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from pres_dist.cli.options import Argument, OutputFile, UserPath, check_partner, parse_with_settings
from pres_dist.config.load import dump_yaml, load_config
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
    calibrate: OutputFile | None = None
    """Measure this machine on CONFIG's stream and write the YAML file."""
    json_file: Annotated[OutputFile | None, Argument("FILE", name="--json")] = None
    """Also write the plan to this file."""


def main(argv: list[str]) -> int:
    """Plan a run, or calibrate this machine for plans."""
    options, settings = parse_with_settings("plan", PlanOptions, argv, SECTIONS)
    check_partner(options, ["mtbf_hours", "restart_seconds"], "simulate")
    config = load_config(options.config, settings)
    if options.calibrate is not None:
        from pres_dist.planner.calibrate import calibrate

        machine = calibrate(config, tell=lambda text: print(text, file=sys.stderr))
        write_atomically(options.calibrate, dump_yaml(machine, with_help=True))
        print(f"{options.calibrate}: {machine.name}")
        return 0

    from pres_dist.console import result_console
    from pres_dist.planner.advice import make_plan
    from pres_dist.planner.tables import print_plan, to_json

    plan = make_plan(config, options)
    print_plan(plan, result_console())
    if options.json_file is not None:
        write_atomically(options.json_file, json.dumps(to_json(plan), indent=1))
    return NO_LAYOUT if plan.advice.best is None else 0
