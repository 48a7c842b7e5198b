"""`pres-dist bench batch-size SWEEP`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pres_dist.cli.options import Argument, BenchOptions, UserPath, parse
from pres_dist.exit_codes import UNFINISHED


class BatchSizeOptions(BenchOptions):
    """Measure accuracy and time against the temporal batch, by stream, method and seed."""

    sweep: Annotated[UserPath, Argument("SWEEP", positional=True)]
    """YAML file of the sweep."""
    jobs: int = Field(1, ge=1)
    """Number of runs at a time."""
    nice: int = 0
    """Niceness of the runs."""
    only: Annotated[list[str], Argument("NAME=VALUE,...", many=True)] = Field(default=[])
    """Run only these: stream=, batch_size=, method=, seed=. The report shows all runs."""
    known: Annotated[list[UserPath], Argument("FILE", many=True)] = Field(default=[])
    """report.json of another sweep, whose finished runs count as done; may be repeated."""


def main(argv: list[str]) -> int:
    """Measure accuracy and time against the temporal batch, by stream, method and seed."""
    options = parse("bench batch-size", BatchSizeOptions, argv)

    from pres_dist.bench.ledger import Ledger
    from pres_dist.bench.load import load_sweep
    from pres_dist.bench.report import known_runs, write_reports
    from pres_dist.bench.runner import Runner
    from pres_dist.bench.sweep import parse_only, run_sweep
    from pres_dist.bench.watch import Watch, list_runs

    sweep = load_sweep(options.sweep)
    only = parse_only(sweep, options.only)
    known = known_runs(options.known)
    ledger = Ledger(options.out or Path("runs") / f"bench-{sweep.config.name}", known)
    if options.dry_run:
        list_runs(sweep, ledger, only)
        return 0
    ledger.create()
    watch = Watch(sweep, ledger, only)
    try:
        if not options.report_only:
            run_sweep(sweep, ledger, Runner(ledger, options.jobs, options.nice, watch), only)
    finally:
        for path in write_reports(sweep, ledger):
            print(f"report: {path}")
    return 0 if options.report_only or watch.all_finished() else UNFINISHED
