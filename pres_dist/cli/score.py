"""`pres-dist score RUN PAIRS`."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Literal

from pres_dist.cli.options import (
    Argument,
    ColumnOptions,
    LocalPath,
    RunOptions,
    TimeOptions,
    WorkerOptions,
    parse,
)
from pres_dist.errors import ConfigError


class ScoreOptions(WorkerOptions, TimeOptions, ColumnOptions, RunOptions):
    """Write the probability of a link between the nodes of each pair, at a time."""

    pairs: Annotated[LocalPath, Argument("PAIRS", positional=True)]
    """CSV, TSV or Parquet file of pairs, with times or without."""
    out: Annotated[LocalPath | None, Argument("FILE")] = None
    """.csv, .csv.gz or .parquet file; standard output when unset."""
    batched: bool = False
    """Score in the temporal batches of evaluation, with memory from before the batch, as test
    metrics do: much faster if times differ."""
    unknown: Literal["error", "skip"] = "error"
    """Treatment of an id that the stream does not have."""
    time: Annotated[str, Argument("COLUMN")] = "t"
    """Column of times; a file without it is scored at --at, or after all events."""


def main(argv: list[str]) -> int:
    """Write the pairs of a file with a probability for each."""
    options = parse("score", ScoreOptions, argv)

    import numpy as np

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.pairs import score_pairs
    from pres_dist.inference.read_pairs import PairColumns, PairFile
    from pres_dist.inference.table_files import TABLE_SUFFIXES, check_place, table_file

    started = time.perf_counter()
    if options.out is not None:
        check_place(options.out, TABLE_SUFFIXES)
    columns = PairColumns(options.src, options.dst, options.time, options.delimiter)
    file = PairFile(options.pairs, columns)
    if file.has_times and (options.at or options.latest):
        raise ConfigError(
            f"{options.pairs}: has times (column {options.time!r}), so --at and --latest "
            "cannot be given; --time '' leaves the column out"
        )
    live = LiveRun(options.run, options.replay, stream=options.stream)
    live.require_links()
    pairs, places = file.pairs(live, options.chosen_time(live), options.unknown)
    probability = np.full(file.num_rows, np.nan, np.float32)
    with options.sharing(live) as share, show_progress("scoring", unit="done") as report:
        probability[places] = score_pairs(live, pairs, options.batched, report, share)
    with table_file(options.out) as out:
        for table in file.with_probabilities(probability):
            out.write(table)
    skipped = len(probability) - len(pairs)
    print(
        f"{options.out or 'scored'}: {len(pairs):,} pairs"
        + (f", {skipped:,} with an unknown id left empty" if skipped else "")
        + f" ({time.perf_counter() - started:.1f} s)",
        file=sys.stdout if options.out else sys.stderr,
    )
    return 0
