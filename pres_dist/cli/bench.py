"""`pres-dist bench`: batch-size, scaling, compare, page, step, ranking."""

from __future__ import annotations

import argparse
from pathlib import Path

from pres_dist.cli import bench_compare, bench_page, bench_ranking, bench_scaling, bench_step
from pres_dist.cli.bench_options import UNFINISHED, Commands, positive
from pres_dist.cli.terminable import terminable
from pres_dist.config.options import OptionParser, normalized
from pres_dist.files import user_path


def main(argv: list[str]) -> int:
    """Run one subcommand; raise ``PresDistError`` for problems that the user can fix."""
    parser = _parser()
    arguments, unknown = parser.parse_known_args(normalized(argv))
    if unknown and not arguments.takes_settings:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.overrides = [*(getattr(arguments, "overrides", None) or []), *unknown]
    with terminable():
        code: int = arguments.action(arguments)
    return code


def _parser() -> OptionParser:
    parser = OptionParser(prog="pres-dist bench", description="Measurements that end in a report.")
    parser.set_defaults(takes_settings=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_batch_size(commands)
    bench_scaling.add_to(commands)
    bench_compare.add_to(commands)
    bench_page.add_to(commands)
    bench_step.add_to(commands)
    bench_ranking.add_to(commands)
    return parser


def _add_batch_size(commands: Commands) -> None:
    summary = "accuracy and time against the temporal batch, by stream, method and seed"
    sweep = commands.add_parser("batch-size", help=summary, description=summary)
    sweep.set_defaults(action=_batch_size)
    sweep.add_argument("sweep", metavar="SWEEP", type=user_path, help="YAML file of the sweep")
    sweep.add_argument(
        "--out",
        metavar="DIR",
        type=user_path,
        help="folder of the sweep (default: runs/bench-NAME)",
    )
    sweep.add_argument(
        "--jobs", metavar="N", type=positive, default=1, help="runs at a time (default 1)"
    )
    sweep.add_argument(
        "--nice", metavar="N", type=int, default=0, help="niceness of the runs (default 0)"
    )
    sweep.add_argument(
        "--only",
        metavar="NAME=VALUE,...",
        action="append",
        default=[],
        help="run only these: stream=, batch_size=, method=, seed=; the report shows all there is",
    )
    sweep.add_argument(
        "--known",
        metavar="FILE",
        type=user_path,
        action="append",
        default=[],
        help="report.json of another sweep, whose finished runs count as done; may be repeated",
    )
    sweep.add_argument(
        "--dry-run", action="store_true", help="list the runs and how far each is, and run nothing"
    )
    sweep.add_argument(
        "--report-only", action="store_true", help="write the report of what is there already"
    )


def _batch_size(arguments: argparse.Namespace) -> int:
    from pres_dist.bench.ledger import Ledger
    from pres_dist.bench.load import load_sweep
    from pres_dist.bench.report import known_runs, write_reports
    from pres_dist.bench.runner import Runner
    from pres_dist.bench.sweep import parse_only, run_sweep
    from pres_dist.bench.watch import Watch, list_runs

    sweep = load_sweep(arguments.sweep)
    only = parse_only(sweep, arguments.only)
    known = known_runs(arguments.known)
    ledger = Ledger(arguments.out or Path("runs") / f"bench-{sweep.config.name}", known)
    if arguments.dry_run:
        list_runs(sweep, ledger, only)
        return 0
    ledger.create()
    watch = Watch(sweep, ledger, only)
    try:
        if not arguments.report_only:
            run_sweep(sweep, ledger, Runner(ledger, arguments.jobs, arguments.nice, watch), only)
    finally:
        for path in write_reports(sweep, ledger):
            print(f"report: {path}")
    return 0 if arguments.report_only or watch.all_finished() else UNFINISHED
