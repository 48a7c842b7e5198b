"""`pres-dist score RUN PAIRS`."""

from __future__ import annotations

import sys
import time

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import (
    add_columns,
    add_time,
    add_workers,
    checked_workers,
    chosen_time,
    sharing,
    use_parser,
)
from pres_dist.config.options import OptionParser, normalized
from pres_dist.errors import ConfigError
from pres_dist.files import local_path


def main(argv: list[str]) -> int:
    """Write the pairs of a file with a probability for each."""
    arguments = _parser().parse_args(normalized(argv))

    import numpy as np

    from pres_dist.cli.data_progress import show_progress
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.pair_files import PairColumns, PairFile
    from pres_dist.inference.pairs import score_pairs
    from pres_dist.inference.table_files import TABLE_SUFFIXES, check_place, table_file

    started = time.perf_counter()
    workers = checked_workers(arguments)
    if arguments.out is not None:
        check_place(arguments.out, TABLE_SUFFIXES)
    columns = PairColumns(arguments.src, arguments.dst, arguments.time, arguments.delimiter)
    file = PairFile(arguments.pairs, columns)
    if file.has_times and (arguments.at or arguments.latest):
        raise ConfigError(
            f"{arguments.pairs}: has times (column {arguments.time!r}), so --at and --latest "
            "cannot be given; --time '' leaves the column out"
        )
    with terminable():
        live = LiveRun(arguments.run, arguments.replay, stream=arguments.stream)
        live.require_links()
        pairs, places = file.pairs(live, chosen_time(live, arguments), arguments.unknown)
        probability = np.full(file.num_rows, np.nan, np.float32)
        with (
            sharing(live, workers, arguments.address) as share,
            show_progress("scoring", unit="done") as report,
        ):
            probability[places] = score_pairs(live, pairs, arguments.batched, report, share)
        with table_file(arguments.out) as out:
            for table in file.with_probabilities(probability):
                out.write(table)
    skipped = len(probability) - len(pairs)
    print(
        f"{arguments.out or 'scored'}: {len(pairs):,} pairs"
        + (f", {skipped:,} with an unknown id left empty" if skipped else "")
        + f" ({time.perf_counter() - started:.1f} s)",
        file=sys.stdout if arguments.out else sys.stderr,
    )
    return 0


def _parser() -> OptionParser:
    parser = use_parser(
        "score",
        "PAIRS [--out FILE]",
        "The probability of a link between the nodes of each pair, at a time.",
    )
    parser.add_argument(
        "pairs",
        metavar="PAIRS",
        type=local_path,
        help="CSV, TSV or Parquet file of pairs, with times or without",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=local_path,
        help=".csv, .csv.gz or .parquet file; standard output when unset",
    )
    add_columns(parser, "times; a file without it is scored at --at, or after all events")
    add_time(parser)
    parser.add_argument(
        "--batched",
        action="store_true",
        help="in the temporal batches of evaluation, as test metrics are: much faster where "
        "times differ, with memory from before the batch",
    )
    parser.add_argument(
        "--unknown",
        choices=("error", "skip"),
        default="error",
        help="what to do about an id that the stream does not have (error)",
    )
    add_workers(parser)
    return parser
