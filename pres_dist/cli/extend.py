"""`pres-dist extend RUN EVENTS`."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import add_columns, add_max_ahead, use_parser
from pres_dist.config.options import OptionParser, normalized
from pres_dist.errors import ConfigError
from pres_dist.files import local_path

if TYPE_CHECKING:
    from pres_dist.inference.train_on import TrainedOn


TRAINING = ("epochs", "replay", "test_share", "keep")
"""Options of --train, whose defaults are in `TrainOn`."""
OF_A_FILE = ("src", "dst", "time", "label", "features", "sort", "delimiter", "max_ahead")


def main(argv: list[str]) -> int:
    """Append the events of a file to a run, and bring its memory up to date."""
    parser = _parser()
    arguments = parser.parse_args(normalized(argv))
    if (arguments.events is None) != arguments.served:
        raise ConfigError("command line: extend needs EVENTS, or --served alone")
    if arguments.served:
        _check_served(arguments, parser)
    _check_training(arguments)

    from pres_dist.cli.data_progress import show_progress
    from pres_dist.events.readers.source import split_names
    from pres_dist.inference.extend import extend_run
    from pres_dist.inference.new_events import EventColumns
    from pres_dist.inference.serve.fold import fold
    from pres_dist.inference.train_on import TrainOn

    started = time.perf_counter()
    features = arguments.features
    columns = EventColumns(
        arguments.src,
        arguments.dst,
        arguments.time,
        arguments.label,
        None if features is None else split_names(features),
        arguments.sort,
        arguments.delimiter,
    )
    given = {
        name: getattr(arguments, name) for name in TRAINING if getattr(arguments, name) is not None
    }
    training = TrainOn(**given) if arguments.train else None
    with terminable(), show_progress("extending") as report:
        if arguments.served:
            done = fold(arguments.run, report, arguments.stream)
        else:
            done = extend_run(
                arguments.run,
                arguments.events,
                columns,
                report,
                training,
                arguments.max_ahead,
                arguments.stream,
            )
    if done.training is not None:
        _tell(done.training)
    print(
        f"{done.folder}: {done.num_events:,} events appended, {done.num_nodes:,} new nodes, "
        f"{done.total_events:,} events now ({time.perf_counter() - started:.1f} s)"
    )
    return 0


def _check_served(arguments: argparse.Namespace, parser: OptionParser) -> None:
    """Raise ConfigError if options for reading a file are given."""
    for name in OF_A_FILE:
        if getattr(arguments, name) != parser.get_default(name):
            raise ConfigError(
                f"--{name.replace('_', '-')} says how a file of events is read: it has no effect "
                "with --served, whose events the service has read and checked"
            )


def _check_training(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for training options without --train, or for --train without a file."""
    given = [name for name in TRAINING if getattr(arguments, name) is not None]
    if given and not arguments.train:
        raise ConfigError(f"--{given[0].replace('_', '-')} is for --train, which is not given")
    if arguments.train and arguments.served:
        raise ConfigError("--train goes on training on the events of a file, not on --served ones")


def _tell(training: TrainedOn) -> None:
    """Print the metrics before and after training."""
    from pres_dist.report.comparison import aligned
    from pres_dist.report.metric_names import NAMES, metrics_in
    from pres_dist.report.progress import number

    losses = ", ".join(number(loss) for loss in training.losses)
    print(
        f"trained on {training.num_trained:,} new events and {training.num_replayed:,.0f} earlier "
        f"ones an epoch; loss {losses}"
    )
    rows = {
        "before": training.before,
        "after": training.after,
        **training.before.get("baselines", {}),
    }
    names = metrics_in([training.before])
    head = ["", *(NAMES[name] for name in names)]
    table = [[title, *(number(row.get(name)) for name in names)] for title, row in rows.items()]
    print("\n".join(aligned([head, *table])))
    print(f"of the last {training.num_scored:,} new events, which were not trained on")
    if not training.kept:
        print("worse than before: weights stay as they were (--keep always takes the new ones)")


def _parser() -> OptionParser:
    parser = use_parser(
        "extend",
        "EVENTS | --served",
        "Append events that came after those of the run, and bring its memory up to date. "
        "Weights stay, unless --train goes on training; the run's own stream and checkpoints are "
        "not touched.",
    )
    parser.add_argument(
        "events",
        metavar="EVENTS",
        type=local_path,
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
    add_max_ahead(parser)
    parser.add_argument(
        "--train", action="store_true", help="go on training, on the first part of the new events"
    )
    parser.add_argument(
        "--epochs", metavar="N", type=int, help="with --train: sweeps over the events (1)"
    )
    parser.add_argument(
        "--replay",
        metavar="SHARE",
        type=float,
        help="with --train: share of the trained batches that are of earlier events, from the end "
        "of the run's training split on (0.5)",
    )
    parser.add_argument(
        "--test-share",
        metavar="SHARE",
        type=float,
        help="with --train: last part of the new events that is scored, not trained on (0.2)",
    )
    parser.add_argument(
        "--keep",
        choices=("better", "always"),
        help="with --train: take the new weights only if they score better on that part (better)",
    )
    return parser
