"""Temporal discontinuity of a stream: the number of pending events of its events.

An event's pending events are the earlier events of the same temporal batch that
touch its source or its destination: they have happened, but are not yet in the memory
that the event reads. Temporal batches are cut as in training, never between equal
times.

Shapes: E events, W events of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.split import batch_bounds

BATCH_SIZES = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
WINDOW_EVENTS = 2_000_000


@dataclass(frozen=True)
class Discontinuity:
    """Pending events at one size of the temporal batch."""

    batch_size: int
    affected_share: float
    """Share of events with at least one pending event."""
    mean_pending: float
    """Mean number of pending events of an event."""
    max_pending: int
    num_batches: int = 0
    largest_batch: int = 0
    """Events in the largest batch: above batch_size if more events have the same time."""


def discontinuity_profile(
    src: np.ndarray,
    dst: np.ndarray,
    t: np.ndarray,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> list[Discontinuity]:
    """Count pending events of events ``src``, ``dst``, ``t`` [E] at each batch size.

    Processes windows of about 2 million events to bound memory. Raises ``DataError`` for
    a batch size below 1.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise DataError(f"batch sizes must be >= 1, got {list(batch_sizes)}")
    events = len(src)
    bounds = {size: np.array(batch_bounds(t, size)) for size in batch_sizes}
    totals = dict.fromkeys(batch_sizes, (0, 0, 0))
    for rows, whole in _windows(events, bounds):
        window = _Window(src[rows], dst[rows])
        numbers = np.arange(rows.start, rows.stop)
        for size, own in whole.items():
            batch_W = np.searchsorted(bounds[size], numbers, side="right")
            inside = slice(own.start - rows.start, own.stop - rows.start)
            pending = window.pending(batch_W)[inside]
            affected, total, most = totals[size]
            totals[size] = (
                affected + int(np.count_nonzero(pending)),
                total + int(pending.sum()),
                max(most, int(pending.max(initial=0))),
            )
    return [
        Discontinuity(
            size,
            affected / events,
            total / events,
            most,
            len(bounds[size]) - 1,
            int(np.diff(bounds[size]).max()),
        )
        for size, (affected, total, most) in totals.items()
    ]


def _windows(
    events: int, bounds: dict[int, np.ndarray]
) -> Iterator[tuple[slice, dict[int, slice]]]:
    """Yield events to sort together, and the range of whole batches to count, by batch size.

    Batches of different sizes end in different places. A window holds every batch that begins
    in its share of the events, so that all sizes share one sort.
    """
    for start in range(0, events, WINDOW_EVENTS):
        ends = [min(start + WINDOW_EVENTS, events)] * 2
        whole = {}
        for size, own in bounds.items():
            first, last = own[np.searchsorted(own, [start, ends[0]])]
            whole[size] = slice(int(first), int(last))
            ends[1] = max(ends[1], int(last))
        yield slice(start, ends[1]), whole


class _Window:
    """W events, sorted once by node and once by pair of nodes."""

    def __init__(self, src: np.ndarray, dst: np.ndarray) -> None:
        self._num_events = len(src)
        ends = np.stack([src, dst], axis=1)
        loops = ends[:, 0] == ends[:, 1]
        _, codes = np.unique(ends, return_inverse=True)
        codes = codes.reshape(-1, 2)
        # A self-loop touches its node once, and shares no second node with others.
        touches = np.stack([np.ones_like(loops), ~loops], axis=1).ravel()
        half_edges = np.flatnonzero(touches)
        self._by_node = _Groups(codes.ravel()[half_edges], half_edges >> 1)
        pairs = codes.min(axis=1) * (2 * len(src)) + codes.max(axis=1)
        straight = np.flatnonzero(~loops)
        self._by_pair = _Groups(pairs[straight], straight)

    def pending(self, batch_W: np.ndarray) -> np.ndarray:
        """Return [W] counts of earlier events with the source or the destination."""
        # An event between the same two nodes is counted at both of its ends, once too often.
        return self._by_node.earlier(batch_W) - self._by_pair.earlier(batch_W)


class _Groups:
    """Entries (key, event), sorted by key and event."""

    def __init__(self, keys: np.ndarray, events: np.ndarray) -> None:
        order = np.argsort(keys, kind="stable")
        self._events = events[order]
        self._new_key = np.diff(keys[order], prepend=-1) != 0

    def earlier(self, batch_W: np.ndarray) -> np.ndarray:
        """Return [W] counts of earlier entries of the same key and batch, summed per event."""
        batch = batch_W[self._events]
        starts = self._new_key | (np.diff(batch, prepend=-1) != 0)
        places = np.arange(len(batch))
        # Entries of one key and batch are adjacent, so the distance from the first of them is the
        # number of earlier ones.
        first = np.maximum.accumulate(np.where(starts, places, 0))
        counts = np.bincount(self._events, weights=places - first, minlength=len(batch_W))
        return counts.astype(np.int64)
