"""Cuts of a stream by time, into splits and temporal batches, never between equal times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.stream import CHUNK_EVENTS, EventStream


@dataclass(frozen=True)
class Split:
    """Event ids [0, train_end), [train_end, validation_end), [validation_end, num_events)."""

    train_end: int
    validation_end: int
    num_events: int
    held_out: np.ndarray | None = None
    """Sorted int64 nodes hidden from training; None if there are none."""

    @property
    def train(self) -> range:
        """Ids of training events."""
        return range(self.train_end)

    @property
    def validation(self) -> range:
        """Ids of validation events."""
        return range(self.train_end, self.validation_end)

    @property
    def test(self) -> range:
        """Ids of test events."""
        return range(self.validation_end, self.num_events)

    def training_mask(self, stream: EventStream) -> np.ndarray | None:
        """Return a [train_end] bool mask that is False for events with a held-out node.

        Return None if no node is held out.
        """
        if self.held_out is None:
            return None
        hidden = np.zeros(stream.num_nodes, dtype=bool)
        hidden[self.held_out] = True
        mask = np.empty(self.train_end, dtype=bool)
        for rows in _slices(0, self.train_end):
            mask[rows] = ~(hidden[stream.src[rows]] | hidden[stream.dst[rows]])
        return mask


def chronological_split(
    stream: EventStream,
    train_share: float = 0.70,
    validation_share: float = 0.15,
    held_out_share: float = 0.0,
    seed: int = 2020,
) -> Split:
    """Split the stream by time, never between events of equal time.

    A cut that falls inside a tie moves to the start of the tie, or to its end if the
    split before it would be empty. ``held_out_share`` of the validation and test
    nodes, chosen by ``seed``, are hidden from training (the inductive split of TGN,
    Rossi et al. 2020). Raise ``DataError`` if a split would be empty; only validation
    may be empty, with ``validation_share`` 0.
    """
    if not (0 < train_share < 1 and 0 <= validation_share < 1 - train_share):
        raise DataError(
            "train_share must be in (0, 1) and validation_share in [0, 1 - train_share), "
            f"got {train_share} and {validation_share}"
        )
    if not 0 <= held_out_share < 1:
        raise DataError(f"held_out_share must be in [0, 1), got {held_out_share}")
    events = stream.num_events
    train_end = _cut(stream.t, int(events * train_share), 0)
    validation_end = train_end
    if validation_share:
        wanted = int(events * (train_share + validation_share))
        validation_end = _cut(stream.t, wanted, train_end)
    if validation_end >= events:
        raise DataError(
            f"{stream.name}: train_share {train_share} and validation_share {validation_share} "
            f"of {events} events leave no test events, since events of equal time stay together"
        )
    return _with_held_out(stream, train_end, validation_end, held_out_share, seed)


def official_split(stream: EventStream, held_out_share: float = 0.0, seed: int = 2020) -> Split:
    """Return the split that a benchmark prescribes, as imported with the stream.

    Other arguments are as in `chronological_split`. Raise ``DataError`` if the stream has none.
    """
    if stream.official_split is None:
        raise DataError(
            f"data.split: official needs a stream with one, all of it; {stream.name} has none "
            f"in its {stream.num_events} events"
        )
    return _with_held_out(stream, *stream.official_split, held_out_share, seed)


def batch_bounds(t: np.ndarray, batch_size: int) -> list[int]:
    """Return the first event of each temporal batch, followed by the number of events.

    An event must not see another event of its own time. If a batch ended inside a run
    of equal times, the rest of the run would read memory written by its first part. So
    a cut inside a run moves back to the start of the run or, if the batch would then be
    empty, forward to its end.

    Args:
        t: [n] times, non-decreasing.
        batch_size: events per batch, before a cut is moved.
    """
    bounds = [0]
    while bounds[-1] < t.size:
        cut = bounds[-1] + batch_size
        if cut < t.size and t[cut - 1] == t[cut]:
            run_start = int(np.searchsorted(t, t[cut], side="left"))
            cut = run_start if run_start > bounds[-1] else int(np.searchsorted(t, t[cut], "right"))
        bounds.append(min(cut, t.size))
    return bounds


def _with_held_out(
    stream: EventStream, train_end: int, validation_end: int, held_out_share: float, seed: int
) -> Split:
    held_out: np.ndarray | None = None
    if held_out_share:
        seen = np.zeros(stream.num_nodes, dtype=bool)
        for rows in _slices(train_end, stream.num_events):
            seen[stream.src[rows]] = True
            seen[stream.dst[rows]] = True
        candidates = np.flatnonzero(seen)
        count = max(1, round(held_out_share * len(candidates)))
        chosen = np.random.default_rng(seed).choice(candidates, size=count, replace=False)
        held_out = np.sort(chosen).astype(np.int64)
    split = Split(train_end, validation_end, stream.num_events, held_out)
    mask = split.training_mask(stream)
    if mask is not None and not mask.any():
        raise DataError(f"{stream.name}: held_out_share {held_out_share} leaves no training events")
    return split


def as_index(events: range | np.ndarray) -> slice | np.ndarray:
    """Return an index of the columns of a stream; for a range a slice, which copies nothing."""
    return slice(events.start, events.stop) if isinstance(events, range) else events


def unseen_nodes(stream: EventStream, split: Split) -> np.ndarray:
    """Return an [N] bool mask of nodes without a training event, held-out events excluded."""
    unseen = np.ones(stream.num_nodes, dtype=bool)
    mask = split.training_mask(stream)
    for rows in _slices(0, split.train_end):
        kept = slice(None) if mask is None else mask[rows]
        unseen[stream.src[rows][kept]] = False
        unseen[stream.dst[rows][kept]] = False
    return unseen


def _cut(t: np.ndarray, wanted: int, start: int) -> int:
    """Return the start of the tie at ``wanted``, or its end if it starts at or before ``start``."""
    wanted = min(max(wanted, start), len(t) - 1)
    cut = int(np.searchsorted(t, t[wanted], side="left"))
    return cut if cut > start else int(np.searchsorted(t, t[wanted], side="right"))


def _slices(start: int, end: int) -> list[slice]:
    return [
        slice(first, min(first + CHUNK_EVENTS, end)) for first in range(start, end, CHUNK_EVENTS)
    ]
