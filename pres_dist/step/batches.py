"""Temporal batches, and passes over events in such batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pres_dist.events.batch_bounds import batch_bounds
from pres_dist.events.tables import EventTables


@dataclass(frozen=True)
class TemporalBatch:
    """Consecutive events whose memory reads all see the state from before them.

    Attributes:
        events_B: event ids, ascending.
        src_B: sources.
        dst_B: destinations.
        t_B: int64 times.
    """

    events_B: Tensor
    src_B: Tensor
    dst_B: Tensor
    t_B: Tensor

    @property
    def num_events(self) -> int:
        return self.events_B.numel()

    def part(self, events: slice) -> TemporalBatch:
        """Return a time slice of the batch."""
        return TemporalBatch(
            self.events_B[events], self.src_B[events], self.dst_B[events], self.t_B[events]
        )


def joined(parts: Sequence[TemporalBatch]) -> TemporalBatch:
    """Concatenate the events of several batches."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return TemporalBatch(*(torch.cat(column) for column in columns))


class Sweep:
    """A pass over events in temporal batches; events with equal timestamps share a batch.

    `batch_bounds` chooses the cuts.

    Args:
        events: ids to sweep, ascending.
        t: [E] times of all events of the stream, non-decreasing.
        batch_size: events in a batch, before a cut is moved.
    """

    def __init__(self, events: range | np.ndarray, t: np.ndarray, batch_size: int) -> None:
        self._events = events
        self._own_ids: Tensor | None = None
        self._bounds = batch_bounds(_times(t, events), batch_size)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def num_events(self) -> int:
        return len(self._events)

    @property
    def largest_batch(self) -> int:
        """Number of events in the largest batch; above batch_size if more events share a time."""
        return max(end - start for start, end in pairwise(self._bounds))

    def events_before(self, batch: int) -> int:
        """Return the number of events in the batches before the given one."""
        return self._bounds[batch]

    def batch(self, tables: EventTables, number: int) -> TemporalBatch:
        """Return the batch with the given number."""
        start, stop = self._bounds[number : number + 2]
        own = self._events[start:stop]
        if isinstance(own, range):
            events_B = torch.arange(own.start, own.stop, device=tables.device)
        else:
            events_B = self._ids(tables.device)[start:stop]
        return batch_of(tables, events_B)

    def _ids(self, device: torch.device) -> Tensor:
        """Return the ids of all events, copied to the device once: per-batch copies would block."""
        if self._own_ids is None or self._own_ids.device != device:
            self._own_ids = torch.as_tensor(self._events).to(device)
        return self._own_ids

    def first_event(self, number: int) -> int:
        """Return the id of a batch's first event, without a device synchronization."""
        return int(self._events[self._bounds[number]])

    def batches(self, tables: EventTables, first: int = 0) -> Iterator[TemporalBatch]:
        """Yield the batches, starting with number `first`."""
        return (self.batch(tables, number) for number in range(first, len(self)))


def batch_of(tables: EventTables, events_B: Tensor) -> TemporalBatch:
    """Return the temporal batch of the given events."""
    columns = (tables.src_E, tables.dst_E, tables.t_E)
    return TemporalBatch(events_B, *(column.index_select(0, events_B) for column in columns))


def _times(t: np.ndarray, events: range | np.ndarray) -> np.ndarray:
    return t[events.start : events.stop] if isinstance(events, range) else t[events]
