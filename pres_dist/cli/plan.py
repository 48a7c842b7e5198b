"""`pres-dist plan`: estimate the cost of a run before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pres_dist.cli.data_options import add_fields, build
from pres_dist.cli.terminable import terminable
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.options import OptionParser, add_overrides, normalized
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.files import user_path, write_atomically
from pres_dist.planner.config import PlanConfig

if TYPE_CHECKING:
    from pres_dist.events.stream import EventStream
    from pres_dist.planner.recommend import Planner
    from pres_dist.planner.touched import TouchModel

NO_PLAN = 1
"""Exit code if no layout fits: a result, not an error of the user."""
SECTIONS = ["preset", "data", "sampling", "memory", "model", "pres", "training"]


def main(argv: list[str]) -> int:
    """Plan a run; raise ``PresDistError`` for problems that the user can fix."""
    arguments, unknown = _parser().parse_known_args(normalized(argv))
    config = load_config(arguments.config, [*(arguments.overrides or []), *unknown])
    asked = build(PlanConfig, arguments)
    for path in (asked.calibrate, arguments.json):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"{path}: the folder to write to does not exist")
    with terminable():
        if asked.calibrate is not None:
            return _calibrate(config, asked.calibrate)
        return _plan(config, asked, arguments.json)


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="pres-dist plan",
        usage="pres-dist plan [CONFIG] --nodes N --events E --workers W [...]\n"
        "       pres-dist plan CONFIG --calibrate FILE",
        description="Memory, traffic, time and efficiency of a run on so many workers, and how "
        "to lay it out: time slices x epochs x replicas, and the temporal batch. Without a "
        "CONFIG the model is TGN with preset best.",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        type=user_path,
        nargs="?",
        help="YAML configuration of the model",
    )
    parser.add_argument(
        "--json", metavar="FILE", type=user_path, help="also write the plan to this file"
    )
    add_fields(parser, PlanConfig)
    add_overrides(parser, RunConfig, sections=SECTIONS)
    return parser


def _calibrate(config: RunConfig, out: Path) -> int:
    import sys

    from pres_dist.planner.calibrate import calibrate

    machine = calibrate(config, tell=lambda text: print(text, file=sys.stderr))
    write_atomically(out, dump_yaml(machine, with_help=True))
    print(f"{out}: {machine.name}")
    return 0


def _plan(config: RunConfig, asked: PlanConfig, json_file: Path | None) -> int:
    from pres_dist.output import result_console
    from pres_dist.planner.scenarios import cluster_of, disturbed, losses
    from pres_dist.planner.tables import (
        print_advice,
        print_disturbed,
        print_head,
        print_losses,
        to_json,
    )

    planner, notes = _planner(config, asked)
    advice, console = planner.advise(asked.workers), result_console()
    print_head(planner, notes, console)
    rows, lossy = [], None
    if advice.best is not None:
        plan, machine = advice.best.plan, planner.machine
        advice.why.append(planner.batch_needed(plan, asked.efficiency))
        if asked.simulate:
            rows = disturbed(cluster_of(advice.best.cost, plan, machine))
            lossy = losses(planner.workload, plan, machine, asked.mtbf_hours, asked.restart_seconds)
    print_advice(advice, planner, console)
    if lossy is not None:
        print_disturbed(rows, console)
        print_losses(lossy, console)
    if json_file is not None:
        values = to_json(advice, planner, notes, rows, lossy)
        write_atomically(json_file, json.dumps(values, indent=1))
    return 0 if advice.best is not None else NO_PLAN


def _planner(config: RunConfig, asked: PlanConfig) -> tuple[Planner, list[str]]:
    from pres_dist.events.builtin import load_stream
    from pres_dist.planner.accuracy import largest_batch
    from pres_dist.planner.choice import Bounds
    from pres_dist.planner.machine import differing, load_machine, model_sizes, nearest_machine
    from pres_dist.planner.recommend import Planner
    from pres_dist.planner.workload import Workload, check_covered

    check_covered(config)
    sizes = model_sizes(config.model_dump())
    machine = load_machine(asked.machine) if asked.machine else nearest_machine(sizes)
    stream = load_stream(asked.stream, config.data.max_events) if asked.stream else None
    nodes, events = _size(asked, stream)
    edge_dim = stream.edge_dim if stream else asked.edge_features
    node_dim = stream.node_dim if stream else asked.node_features
    sources = asked.sources if stream is None else stream.num_sources or 0
    workload = Workload(config, nodes, events, edge_dim, node_dim, sources)
    batch = asked.largest_batch or largest_batch(config.preset)
    bounds = Bounds(batch, asked.largest_epochs, asked.largest_replicas)
    notes = [
        f"temporal batch of {batch:,} events at most: "
        + ("as asked" if asked.largest_batch else f"as measured for preset {config.preset}")
    ]
    others = differing(machine, sizes)
    if others:
        notes.append(
            "compute rates are of another model, calibrate anew: measured with " + ", ".join(others)
        )
    touch = _touch(config, asked, stream, nodes, events, batch)
    parts, price = tuple(asked.spread), asked.price_per_hour
    return Planner(workload, machine, touch, bounds, parts, price), notes


def _size(asked: PlanConfig, stream: EventStream | None) -> tuple[int, int]:
    """Return the numbers of nodes and events: as given, or else the stream's."""
    if stream is None and not (asked.nodes and asked.events):
        raise ConfigError(
            "command line: pres-dist plan needs --nodes and --events, or --stream, got "
            f"--nodes {asked.nodes}, --events {asked.events} and no stream"
        )
    if asked.sources and asked.nodes and asked.sources >= asked.nodes:
        raise ConfigError(
            f"command line: --sources must be below --nodes ({asked.nodes:,}), got "
            f"{asked.sources:,}"
        )
    if stream is None:
        return asked.nodes, asked.events
    return asked.nodes or stream.num_nodes, asked.events or stream.num_events


def _touch(
    config: RunConfig,
    asked: PlanConfig,
    stream: EventStream | None,
    nodes: int,
    events: int,
    batch: int,
) -> TouchModel:
    from pres_dist.planner.power_law import assumed_touches
    from pres_dist.planner.touched import count_touches

    if stream is not None:
        return count_touches(stream, config, batch)
    return assumed_touches(config, nodes, events, asked.sources, asked.zipf, asked.repeat_share)
