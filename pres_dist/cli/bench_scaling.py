"""`pres-dist bench scaling CONFIG`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pres_dist.bench.scaling.config import LAUNCHERS, MODES, ScalingConfig
from pres_dist.cli.bench_options import (
    UNFINISHED,
    Commands,
    listed,
    natural,
    number,
    one_of,
    positive,
)
from pres_dist.cli.ray import require_ray
from pres_dist.config.options import add_overrides
from pres_dist.config.run import RunConfig
from pres_dist.files import user_path

if TYPE_CHECKING:
    from pres_dist.bench.scaling.plan import ScalingPlan

SUMMARY = "speed, efficiency and accuracy by number of workers"


def add_to(commands: Commands) -> None:
    """Add the subcommand to `pres-dist bench`."""
    parser = commands.add_parser(
        "scaling",
        help=SUMMARY,
        description=f"{SUMMARY.capitalize()}: strong and weak scaling, with several seeds. "
        "Every field of the configuration is also an option.",
        usage="pres-dist bench scaling CONFIG [--workers 1,2,4] [--launcher torchrun,ray] "
        "[--mode strong,weak] [--seeds 0,1] [--repeats N] [--reference NAME=VALUE,...] "
        "[--targets AP,...] [--out DIR] [--nice N] [--dry-run] [--report-only] "
        "[--SECTION.FIELD VALUE ...]",
    )
    parser.set_defaults(action=_scaling, takes_settings=True)
    parser.add_argument("config", metavar="CONFIG", type=user_path, help="YAML configuration file")
    asked = ScalingConfig()
    parser.add_argument(
        "--workers",
        metavar="N,...",
        type=listed(positive),
        default=asked.workers,
        help="numbers of workers (default 1,2)",
    )
    parser.add_argument(
        "--launcher",
        metavar="NAME,...",
        type=listed(one_of(*LAUNCHERS)),
        default=asked.launchers,
        help="what starts the workers: torchrun, ray or both (default torchrun)",
    )
    parser.add_argument(
        "--mode",
        metavar="NAME,...",
        type=listed(one_of(*MODES)),
        default=asked.modes,
        help="strong: the configured temporal batch for all workers together; weak: that much "
        "for each (default both)",
    )
    parser.add_argument(
        "--seeds",
        metavar="N,...",
        type=listed(natural),
        default=asked.seeds,
        help="values of training.seed (default 0,1)",
    )
    parser.add_argument(
        "--repeats", metavar="N", type=positive, default=1, help="runs of each seed (default 1)"
    )
    parser.add_argument(
        "--reference",
        metavar="NAME=VALUE,...",
        action="append",
        default=[],
        help="another one-worker configuration to try: the fastest of all is what efficiency is "
        "against; may be repeated",
    )
    parser.add_argument(
        "--targets",
        metavar="AP,...",
        type=listed(number),
        default=asked.targets,
        help="validation AP to time; 0 or below is relative to the best of one worker "
        "(default -0.01; write --targets=-0.01)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=user_path,
        help="folder of the bench (default: runs/scaling-NAME)",
    )
    parser.add_argument(
        "--nice", metavar="N", type=natural, default=0, help="niceness of the runs (default 0)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the runs and how far each is, and run nothing"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write the report of what is there already"
    )
    add_overrides(parser, RunConfig)


def _scaling(arguments: argparse.Namespace) -> int:
    from pres_dist.bench.ledger import FINISHED, Ledger
    from pres_dist.bench.runner import Runner
    from pres_dist.bench.scaling.report import write_scaling_reports
    from pres_dist.bench.watch import list_jobs, tell_jobs

    plan = _plan(arguments)
    runs = list(plan.runs())
    ledger = Ledger(arguments.out or Path("runs") / f"scaling-{plan.base.name}")
    if arguments.dry_run:
        list_jobs(runs, ledger)
        return 0
    ledger.create()
    try:
        if not arguments.report_only:
            # One at a time: two runs would compete for the cores.
            Runner(ledger, 1, arguments.nice, tell_jobs(runs, ledger)).run(runs)
    finally:
        for path in write_scaling_reports(plan, ledger):
            print(f"report: {path}")
    finished = all(ledger.state(run) in FINISHED for run in runs)
    return 0 if arguments.report_only or finished else UNFINISHED


def _plan(arguments: argparse.Namespace) -> ScalingPlan:
    from pres_dist.bench.scaling.plan import ScalingPlan

    if "ray" in arguments.launcher:
        require_ray()
    asked = ScalingConfig(
        workers=sorted(arguments.workers),
        modes=arguments.mode,
        launchers=arguments.launcher,
        seeds=arguments.seeds,
        repeats=arguments.repeats,
        targets=arguments.targets,
        references=arguments.reference,
    )
    return ScalingPlan(asked, arguments.config, arguments.overrides)
