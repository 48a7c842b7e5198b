"""`pres-dist bench batch-size SWEEP`."""

from __future__ import annotations

from functools import partial
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
    from pres_dist.bench.runner import Runner, Watch
    from pres_dist.bench.sweep_file import load_sweep
    from pres_dist.bench.sweep_report import known_runs, write_reports
    from pres_dist.bench.sweep_runs import (
        listed,
        parse_only,
        run_sweep,
        runs_so_far,
        untuned_cells,
    )

    sweep = load_sweep(options.sweep)
    only = parse_only(sweep, options.only)
    known = known_runs(options.known)
    ledger = Ledger(options.out or Path("runs") / f"bench-{sweep.config.name}", known)
    if options.dry_run:
        print("\n".join(listed(sweep, ledger, only)))
        return 0
    ledger.create()
    watch = Watch(ledger, lambda: runs_so_far(sweep, ledger, only), partial(print, flush=True))
    try:
        if not options.report_only:
            run_sweep(sweep, ledger, Runner(ledger, options.jobs, options.nice, watch), only)
    finally:
        for path in write_reports(sweep, ledger):
            print(f"report: {path}")
    finished = watch.all_finished() and not untuned_cells(sweep, ledger, only)
    return 0 if options.report_only or finished else UNFINISHED
