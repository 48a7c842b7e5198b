"""`pres-dist extend RUN EVENTS`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from pres_dist.cli.options import (
    AheadOptions,
    Argument,
    ColumnOptions,
    LocalPath,
    RunOptions,
    check_partner,
    parse,
)
from pres_dist.config.options import option
from pres_dist.errors import ConfigError

if TYPE_CHECKING:
    from pres_dist.inference.train_on import TrainedOn

TRAINING = ("epochs", "replay", "test_share", "keep")
"""Options of --train, whose defaults are in `TrainOn`."""
OF_A_FILE = ("src", "dst", "time", "label", "features", "sort", "delimiter", "max_ahead")


class ExtendOptions(AheadOptions, ColumnOptions, RunOptions):
    """Append later events to a run, and bring its memory up to date.

    Weights stay as they are unless --train is given. The run's own stream and checkpoints are not
    changed.
    """

    events: Annotated[LocalPath | None, Argument("EVENTS", positional=True)] = None
    """CSV, TSV or Parquet file of later events."""
    served: bool = False
    """Append the events that `pres-dist serve` has ingested, instead of a file."""
    label: Annotated[str | None, Argument("COLUMN")] = None
    """Column of labels; `label` when unset, if the stream has labels."""
    features: Annotated[str | None, Argument("A,B")] = None
    """Columns of edge features; the names of the import when unset."""
    sort: bool = False
    """Sort the events by time."""
    train: bool = False
    """Also continue training, on the first part of the new events."""
    epochs: int | None = None
    """With --train: number of epochs; 1 when unset."""
    replay: float | None = None
    """With --train: share of earlier events among the trained batches, from the end of the
    training split on; 0.5 when unset."""
    test_share: float | None = None
    """With --train: share of the new events, the last ones, that is scored and not trained on;
    0.2 when unset."""
    keep: Literal["better", "always"] | None = None
    """With --train: keep the new weights only if they score better than before, or always;
    better when unset."""


def main(argv: list[str]) -> int:
    """Append the events of a file to a run, and bring its memory up to date."""
    options = parse("extend", ExtendOptions, argv)
    given = options.model_fields_set
    if (options.events is None) != options.served:
        raise ConfigError("command line: extend needs EVENTS, or --served alone")
    for name in OF_A_FILE:
        if options.served and name in given:
            raise ConfigError(
                f"command line: {option(name)} says how a file of events is read: it has no "
                "effect with --served, whose events the service has read and checked"
            )
    check_partner(options, TRAINING, "train")
    training = {name: getattr(options, name) for name in TRAINING if name in given}
    if options.train and options.served:
        raise ConfigError(
            "command line: --train needs a file of events, and cannot be given with --served"
        )

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.events.readers.source import split_names
    from pres_dist.inference.extend import extend_run
    from pres_dist.inference.new_events import EventColumns
    from pres_dist.inference.serve.fold import fold
    from pres_dist.inference.train_on import TrainOn

    started = time.perf_counter()
    train_on = TrainOn(**training) if options.train else None
    columns = EventColumns(
        options.src,
        options.dst,
        options.time,
        options.label,
        None if options.features is None else split_names(options.features),
        options.sort,
        options.delimiter,
    )
    with show_progress("extending") as report:
        if options.events is None:
            done = fold(options.run, report, options.stream)
        else:
            done = extend_run(
                options.run,
                options.events,
                columns,
                report,
                train_on,
                options.max_ahead,
                options.stream,
            )
    if done.training is not None:
        print_training(done.training)
    print(
        f"{done.folder}: {done.num_events:,} events appended, {done.num_nodes:,} new nodes, "
        f"{done.total_events:,} events now ({time.perf_counter() - started:.1f} s)"
    )
    return 0


def print_training(training: TrainedOn) -> None:
    """Print the metrics before and after training."""
    from pres_dist.report.result_tables import NAMES, aligned, metrics_in, number

    losses = ", ".join(number(loss) for loss in training.losses)
    print(
        f"trained on {training.num_trained:,} new events and {training.num_replayed:,.0f} earlier "
        f"ones an epoch; loss {losses}"
    )
    rows = {"before": training.before, "after": training.after}
    rows |= training.before.get("baselines", {})
    names = metrics_in([training.before])
    table = [["", *(NAMES[name] for name in names)]]
    table += [[title, *(number(row.get(name)) for name in names)] for title, row in rows.items()]
    print("\n".join(aligned(table)))
    print(f"of the last {training.num_scored:,} new events, which were not trained on")
    if not training.kept:
        print("worse than before: weights stay as they were (--keep always takes the new ones)")
