"""Log of the earlier events of node pairs, for all queries at once.

Shapes: H events in the log, Q queries.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.sampling import AdjacencyHome
from pres_dist.events.growing import GrowingTables
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import tensor_of
from pres_dist.sampling.event_groups import find
from pres_dist.sampling.sorted_pairs import SortedPairs
from pres_dist.sampling.stored_keys import keys_of

_NODES = 1 << 31
_EVENTS = 1 << 35
"""Bases of the keys of appended events; `GrowingAdjacency` has fewer nodes."""


class PairLog:
    """Counts and latest events of pairs (source, destination) before an event id.

    Args:
        stream: the events.
        device: device of the look-ups.
        keep: [E] bool, False for events to exclude from the log; None keeps all.
        home: location of the index, as in `SamplingConfig.adjacency`.

    Raises:
        DataError: too many nodes or events, or the index cannot be stored on disk as asked.
    """

    def __init__(
        self,
        stream: EventStream,
        device: torch.device,
        keep: np.ndarray | None = None,
        home: AdjacencyHome = "auto",
    ) -> None:
        pairs = SortedPairs(stream, keep)
        self._key_H, self._event_H = (
            tensor_of(column, device) for column in np.split(keys_of(pairs, home), 2)
        )
        self._keys, self._num_events = pairs.keys.to(device), stream.num_events

    def before(self, src_Q: Tensor, dst_Q: Tensor, before_Q: Tensor) -> tuple[Tensor, Tensor]:
        """Count the events of each pair with id < before, and return the id of the last.

        Args:
            src_Q, dst_Q: int64 nodes of the stream.
            before_Q: int64 ids.

        Returns:
            [Q] int64 counts, and [Q] int64 ids, -1 if the count is 0.
        """
        key_Q = self._keys.ordered(src_Q, dst_Q)
        return _last(self._key_H, self._event_H, self._num_events, key_Q, before_Q)


class GrowingPairs(PairLog):
    """A log that includes appended events.

    An append copies the keys of all events appended so far.

    Args:
        known: log of the stream.
        tables: its columns, including appended events.
        num_nodes: number of nodes of the stream.
    """

    def __init__(self, known: PairLog, tables: GrowingTables, num_nodes: int) -> None:
        self._known, self._tables, self._num_nodes = known, tables, num_nodes
        self._first = self._seen = tables.num_known
        self._late_H = self._start_H = torch.empty(0, dtype=torch.int64, device=tables.device)

    def append(self) -> None:
        """Add the events appended to the tables since the last call."""
        tables, seen, old_H = self._tables, self._seen, self._late_H
        end = tables.t_E.numel()
        key = tables.src_E[seen:end] * _NODES + tables.dst_E[seen:end]
        new = key.sort(stable=True)  # events of one pair stay in time order
        key, event = new.values, new.indices + seen
        start = torch.searchsorted(old_H, key) + torch.searchsorted(key, key)
        # Old pairs start later by the number of new events of pairs that sort before them.
        moved_H = self._start_H + torch.searchsorted(key, old_H) * _EVENTS
        place = torch.searchsorted(old_H, key, right=True)
        place += torch.arange(key.numel(), device=key.device)
        self._late_H = _merged(old_H, key, place)
        self._start_H = _merged(moved_H, start * _EVENTS + event, place)
        self._seen = end

    def before(self, src_Q: Tensor, dst_Q: Tensor, before_Q: Tensor) -> tuple[Tensor, Tensor]:
        known_Q = torch.maximum(src_Q, dst_Q) < self._num_nodes
        query = (src_Q, dst_Q, before_Q.clamp(max=self._first))
        # For a pair with a new node, query before event 0, where no pair has events.
        count_Q, latest_Q = self._known.before(*(torch.where(known_Q, each, 0) for each in query))
        if not self._late_H.numel():
            return count_Q, latest_Q
        key_Q = src_Q * _NODES + dst_Q
        late_Q, newest_Q = _last(self._late_H, self._start_H, _EVENTS, key_Q, before_Q)
        return count_Q + late_Q, torch.where(late_Q > 0, newest_Q, latest_Q)


def _merged(old_H: Tensor, new: Tensor, place: Tensor) -> Tensor:
    """Insert new rows at their places among the old ones."""
    merged = new.new_empty(old_H.numel() + new.numel())
    old = torch.ones_like(merged, dtype=torch.bool)
    old[place] = False
    merged[place], merged[old] = new, old_H
    return merged


def _last(
    key_H: Tensor, event_H: Tensor, base: int, key_Q: Tensor, before_Q: Tensor
) -> tuple[Tensor, Tensor]:
    """Count each key's events before an id in sorted columns; also return the last, or -1."""
    start_Q, known_Q = find(key_H, key_Q)
    if not key_H.numel():
        return torch.zeros_like(key_Q), torch.full_like(key_Q, -1)
    end_Q = torch.searchsorted(event_H, start_Q * base + before_Q)
    count_Q = torch.where(known_Q, end_Q - start_Q, 0)
    latest_Q = event_H[(end_Q - 1).clamp(min=0)] - start_Q * base
    return count_Q, torch.where(count_Q > 0, latest_Q, -1)
