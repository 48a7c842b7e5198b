"""`pres-dist bench COMMAND`."""

from __future__ import annotations

from pres_dist.cli import (
    bench_batch_size,
    bench_compare,
    bench_page,
    bench_ranking,
    bench_scaling,
    bench_step,
)
from pres_dist.cli.options import run_subcommand


def main(argv: list[str]) -> int:
    """Run a command that measures, and writes a report."""
    commands = {
        "batch-size": bench_batch_size.main,
        "scaling": bench_scaling.main,
        "compare": bench_compare.main,
        "page": bench_page.main,
        "step": bench_step.main,
        "ranking": bench_ranking.main,
    }
    return run_subcommand("bench", "Measure, and write a report.", commands, argv)
