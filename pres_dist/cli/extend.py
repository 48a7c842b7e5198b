"""`pres-dist extend RUN EVENTS`."""

from __future__ import annotations

import time
from pathlib import Path

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import add_columns, use_parser
from pres_dist.config.options import OptionParser, normalised
from pres_dist.errors import ConfigError


def main(argv: list[str]) -> int:
    """Append the events of a file to a run, and bring its memory up to date."""
    arguments = _parser().parse_args(normalised(argv))
    if (arguments.events is None) != arguments.served:
        raise ConfigError("command line: extend needs EVENTS, or --served alone")

    from pres_dist.cli.data_progress import show_progress
    from pres_dist.serve.fold import fold
    from pres_dist.use.extend import extend_run
    from pres_dist.use.new_events import EventColumns

    started = time.perf_counter()
    features = arguments.features
    columns = EventColumns(
        arguments.src,
        arguments.dst,
        arguments.time,
        arguments.label,
        None if features is None else [name for name in features.split(",") if name],
        arguments.sort,
    )
    with terminable(), show_progress("extending") as report:
        if arguments.served:
            done = fold(arguments.run, report)
        else:
            done = extend_run(arguments.run, arguments.events, columns, report)
    print(
        f"{done.folder}: {done.num_events:,} events appended, {done.num_nodes:,} new nodes, "
        f"{done.total_events:,} events now ({time.perf_counter() - started:.1f} s)"
    )
    return 0


def _parser() -> OptionParser:
    parser = use_parser(
        "extend",
        "EVENTS | --served",
        "Append events that came after those of the run, and bring its memory up to date. "
        "Weights stay; the run's own stream is not touched.",
    )
    parser.add_argument(
        "events",
        metavar="EVENTS",
        type=Path,
        nargs="?",
        help="CSV, TSV or Parquet file of later events",
    )
    parser.add_argument(
        "--served",
        action="store_true",
        help="append the events that `pres-dist serve` has taken in, in place of a file",
    )
    add_columns(parser)
    parser.add_argument(
        "--label", metavar="COLUMN", help="column of labels, where the stream has them (label)"
    )
    parser.add_argument(
        "--features", metavar="A,B", help="columns of edge features (named as at the import)"
    )
    parser.add_argument("--sort", action="store_true", help="sort the events by time")
    return parser
