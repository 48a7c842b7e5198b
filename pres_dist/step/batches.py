"""Temporal batches, and the loader that cuts a stream into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pres_dist.events.split import as_index, batch_bounds
from pres_dist.events.tables import EventTables


@dataclass(frozen=True)
class TemporalBatch:
    """Consecutive events whose memory reads all see the state from before them.

    Attributes:
        first_event: id of the first event of the whole batch, also in a slice of it: memory is
            read as it was before that event. Kept on the host, since reading it from
            `events_B` would wait for a GPU.
        events_B: event ids, ascending.
        src_B: sources.
        dst_B: destinations.
        t_B: int64 times.
        valid_B: bool, False for padding, which repeats the last event; None if there is none.
    """

    first_event: int
    events_B: Tensor
    src_B: Tensor
    dst_B: Tensor
    t_B: Tensor
    valid_B: Tensor | None = None

    @property
    def num_events(self) -> int:
        """Number of events of the batch or slice."""
        return self.events_B.numel()

    def part(self, events: slice) -> TemporalBatch:
        """Return a time slice of the batch."""
        columns = (self.events_B, self.src_B, self.dst_B, self.t_B)
        return TemporalBatch(self.first_event, *(column[events] for column in columns))


def joined(parts: Sequence[TemporalBatch]) -> TemporalBatch:
    """Concatenate slices of one batch."""
    if len(parts) == 1:
        return parts[0]
    columns = [(part.events_B, part.src_B, part.dst_B, part.t_B) for part in parts]
    joint = (torch.cat(column) for column in zip(*columns, strict=True))
    return TemporalBatch(parts[0].first_event, *joint)


class TemporalLoader:
    """Loads events in temporal batches; events with equal timestamps share a batch.

    `batch_bounds` chooses the cuts.

    Args:
        events: ids to load, ascending.
        t: [E] times of all events of the stream, non-decreasing.
        batch_size: events in a batch, before a cut is moved.
    """

    def __init__(self, events: range | np.ndarray, t: np.ndarray, batch_size: int) -> None:
        self._events = events
        self._own_ids: Tensor | None = None
        self._bounds = batch_bounds(t[as_index(events)], batch_size)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def num_events(self) -> int:
        """Number of events in all batches."""
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
        start, stop = self.bounds(number)
        own, device = self._events[start:stop], tables.device
        if isinstance(own, range):
            return batch_of(tables, torch.arange(own.start, own.stop, device=device), own.start)
        return batch_of(tables, self._ids(device)[start:stop], int(own[0]))

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the positions of a batch's first event and after its last, among all events."""
        return self._bounds[number], self._bounds[number + 1]

    def padded(self, tables: EventTables, start: Tensor, stop: Tensor, num: int) -> TemporalBatch:
        """Return the batch with the given bounds, padded to `num` events.

        Args:
            tables: columns of the stream.
            start, stop: int64 scalars; at least one event.
            num: size of the result.
        """
        position_B = start + torch.arange(num, device=tables.device)
        safe_B = torch.minimum(position_B, stop - 1)
        if isinstance(self._events, range):
            events_B = self._events.start + safe_B
        else:
            events_B = self._ids(tables.device).index_select(0, safe_B)
        # `first_event` serves stale reads and FIFO mailboxes, which have no fixed shapes.
        batch = batch_of(tables, events_B, first_event=0)
        return replace(batch, valid_B=position_B < stop)

    def _ids(self, device: torch.device) -> Tensor:
        """Return the event ids on the device: a copy per batch would wait for a GPU."""
        if self._own_ids is None or self._own_ids.device != device:
            self._own_ids = torch.as_tensor(self._events).to(device)
        return self._own_ids

    def batches(self, tables: EventTables) -> Iterator[TemporalBatch]:
        """Yield all batches."""
        return (self.batch(tables, number) for number in range(len(self)))


def batch_of(
    tables: EventTables, events_B: Tensor, first_event: int | None = None
) -> TemporalBatch:
    """Return the temporal batch of the given events.

    Args:
        tables: columns of the stream.
        events_B: event ids, ascending.
        first_event: id of the first one; read from `events_B` when None.
    """
    if first_event is None:
        first_event = int(events_B[0]) if events_B.numel() else 0
    columns = (tables.src_E, tables.dst_E, tables.t_E)
    rows = (column.index_select(0, events_B) for column in columns)
    return TemporalBatch(first_event, events_B, *rows)
