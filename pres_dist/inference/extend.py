"""Append events to a run: extend its stream, and update its memory with the new events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.errors import ConfigError, DataError
from pres_dist.inference.journal import read_journal
from pres_dist.inference.live import LiveRun
from pres_dist.inference.new_events import EventColumns, NewEvents, read_new_events, write_longer
from pres_dist.inference.node_numbering import NodeNumbering, remap_nodes
from pres_dist.inference.times import MaxAhead
from pres_dist.inference.train_on import TrainedOn, TrainOn, check_trainable, train_on
from pres_dist.inference.versions import EXTENDED, STREAM, RunState, new_version, publish
from pres_dist.inference.walker import Report, quiet
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_lock import RunLock, lock_run

JOURNAL = "served.jsonl"
"""File of the events that a service has ingested since (`pres_dist.inference.serve`)."""


@dataclass(frozen=True)
class Extension:
    """Result of appending events.

    Attributes:
        num_events: new events.
        num_nodes: new nodes.
        total_events: events of the extended stream.
        folder: folder of the new version.
        training: result of training on the new events; None unless that was requested.
    """

    num_events: int
    num_nodes: int
    total_events: int
    folder: Path
    training: TrainedOn | None = None


def extend_run(
    run_dir: Path,
    source: Any,
    columns: EventColumns | None = None,
    report: Report = quiet,
    training: TrainOn | None = None,
    max_ahead: MaxAhead = "auto",
    stream: Path | None = None,
) -> Extension:
    """Append events to the stream of a run, and update its memory.

    The weights do not change unless `training` is given. The run's own stream is not modified:
    the extended stream is stored in the run folder, and all later uses of the run read it from
    there. A crash leaves the run unchanged.

    Args:
        run_dir: folder of the run.
        source: path of a file, or a DataFrame.
        columns: names of the columns of `source`.
        report: progress callback that counts the events that memory has seen.
        training: how to train on the new events; None leaves the weights unchanged.
        max_ahead: how far after the last event new ones may be; see `latest_allowed`.
        stream: current path of the run's stream; None if it was not moved.

    Raises:
        ConfigError: `run_dir` is not a run folder, another process writes to it, or the run
            cannot be trained further (see `train_on`).
        CheckpointError: there is no usable checkpoint, or it belongs to other events.
        DataError: events are not valid, or not later than all events of the run.
    """
    read_config(run_dir)
    with lock_run(run_dir) as lock:
        journal = run_dir / EXTENDED / JOURNAL
        if journal.exists() and read_journal(journal).kept:
            raise ConfigError(
                f"{journal}: holds events that `pres-dist serve` took in: append these first, by "
                f"`pres-dist extend {run_dir} --served`"
            )
        live = LiveRun(run_dir, stream=stream)
        new = read_new_events(live.stream, source, columns or EventColumns(), max_ahead)
        return append(lock, live, new, report, training)


def append(
    lock: RunLock,
    live: LiveRun,
    new: NewEvents,
    report: Report = quiet,
    training: TrainOn | None = None,
) -> Extension:
    """Append events to a run whose lock the caller holds; see `extend_run`."""
    learned = learned_labels(live)
    if new.chunk.labels is not None and learned is not None:
        unknown = np.setdiff1d(new.chunk.labels, learned)
        if unknown.size:
            raise DataError(
                f"labels must be among those that the run has learned, got {unknown[0]}"
            )
    if training is not None:
        check_trainable(live, new)
    live.move_to(live.stream.num_events, report)
    lock.check()
    staged = new_version(live.run_dir)
    try:
        state, trained = _grown(live, new, staged.path, report, training)
        lock.check()
        return Extension(
            len(new),
            state.data.stream.num_nodes - live.stream.num_nodes,
            state.data.stream.num_events,
            publish(staged, state),
            trained,
        )
    except BaseException:
        staged.discard()
        raise


def _grown(
    live: LiveRun, new: NewEvents, folder: Path, report: Report, training: TrainOn | None
) -> tuple[RunState, TrainedOn | None]:
    """Return the run state with the new events, and the result of training on them."""
    stream = write_longer(live.stream, new, folder / STREAM)
    before, after = NodeNumbering.of(live.stream), NodeNumbering.of(stream)
    state = replace(
        live.state,
        data=live.state.data_over(stream, live.config, live.device),
        segments=[*live.state.segments, stream.num_events],
        memory=remap_nodes(live.parts.store.state_dict(), before, after),
        memory_end=live.stream.num_events,
    )
    trained = None
    if training is not None:
        state, trained = train_on(live, state, training, report)
    # Walk over the new events as a run that is opened later would, so that both have equal bits.
    grown = LiveRun(live.run_dir, opened=state)
    grown.move_to(stream.num_events, report)
    memory = grown.parts.store.state_dict()
    return replace(state, memory=memory, memory_end=stream.num_events), trained


def learned_labels(live: LiveRun) -> np.ndarray | None:
    """Return the labels that new events may have; None if any label is allowed."""
    if live.config.task.kind == "link_prediction" or live.stream.labels is None:
        return None
    labels: np.ndarray = np.unique(live.stream.labels)
    return labels
