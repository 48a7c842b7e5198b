"""The temporal adjacency: which events of a node come before a query.

The half-edges of the stream are kept as one sorted tensor of composite keys
``node * num_events + event_id``. The history of a node before an event is then a
contiguous run of it, found for all queries at once by ``torch.searchsorted``:
no loop, no kernel of its own, the same code on CPU and GPU.

Shapes: E events, H half-edges (2E less self-loops), Q queries.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables

_INT64_LIMIT = 1 << 63


class TemporalAdjacency:
    """Histories of all nodes, in event order, on one device.

    A query is a node and ``before``, the id of the first event that it must not
    see. `first_event_at` turns a time into such a bound, so that events at the
    query's own time are outside the history and take up none of its places.
    A self-loop is one event, and stands once in the history of its node.

    Args:
        stream: the events.
        tables: their columns on the device where the adjacency is to live.
        keep: [E] bool, False for events that no history may contain; all when None.
    """

    def __init__(
        self,
        stream: EventStream,
        tables: EventTables,
        keep: np.ndarray | None = None,
    ) -> None:
        self.num_events = stream.num_events
        ranks = _ranks_if_needed(stream)
        keys = _sorted_keys(stream, ranks, keep)
        self._keys_H = torch.from_numpy(keys).to(tables.device)
        self._present = None if ranks is None else torch.from_numpy(ranks).to(tables.device)
        self._tables = tables

    @property
    def num_half_edges(self) -> int:
        return self._keys_H.numel()

    def first_event_at(self, t_Q: Tensor) -> Tensor:
        """Id of the first event at or after each time: the bound of a query at that time."""
        return torch.searchsorted(self._tables.t_E, t_Q)

    def first_event_after(self, t_Q: Tensor) -> Tensor:
        """Id of the first event later than each time."""
        return torch.searchsorted(self._tables.t_E, t_Q, right=True)

    def history(self, nodes_Q: Tensor, before_Q: Tensor, since: int = 0) -> tuple[Tensor, Tensor]:
        """Positions [start, end) of each node's half-edges with since <= event id < before."""
        base_Q, known_Q = self._base(nodes_Q)
        bounds = torch.stack([base_Q + since, base_Q + before_Q.clamp(min=since)])
        start_Q, end_Q = torch.searchsorted(self._keys_H, bounds)
        return start_Q, torch.where(known_Q, end_Q, start_Q) if known_Q is not None else end_Q

    def event_at(self, nodes: Tensor, positions: Tensor) -> Tensor:
        """Event id at positions of the nodes' histories (same shape)."""
        if not self.num_half_edges:  # no event was kept: there is no position to read
            return torch.zeros_like(positions)
        base, _ = self._base(nodes)
        return self._keys_H[positions] - base

    def other_endpoint(self, nodes: Tensor, events: Tensor) -> Tensor:
        """The endpoint of each event that is not the given one; itself for a self-loop."""
        flat = events.flatten()
        ends = (column.index_select(0, flat) for column in (self._tables.src_E, self._tables.dst_E))
        src, dst = (end.view(events.shape) for end in ends)
        return src ^ dst ^ nodes

    def times(self, events: Tensor) -> Tensor:
        """int64 times of events (same shape)."""
        return self._tables.times(events)

    @property
    def endpoints(self) -> tuple[Tensor, Tensor]:
        """[E] sources and destinations of all events, those that no history contains too."""
        return self._tables.src_E, self._tables.dst_E

    @property
    def device(self) -> torch.device:
        return self._tables.device

    def _base(self, nodes: Tensor) -> tuple[Tensor, Tensor | None]:
        if self._present is None:
            return nodes * self.num_events, None
        rank = torch.searchsorted(self._present, nodes.contiguous()).clamp(
            max=self._present.numel() - 1
        )
        return rank * self.num_events, self._present[rank] == nodes


def _ranks_if_needed(stream: EventStream) -> np.ndarray | None:
    """Sorted ids of the nodes that occur, when node * num_events would overflow int64."""
    if stream.num_nodes * stream.num_events < _INT64_LIMIT:
        return None
    present = np.union1d(stream.src, stream.dst)
    if present.size * stream.num_events >= _INT64_LIMIT:
        raise DataError(
            f"{stream.name}: {present.size} nodes x {stream.num_events} events is beyond the "
            f"2^63 that the adjacency can index"
        )
    return present


def _sorted_keys(
    stream: EventStream, present: np.ndarray | None, keep: np.ndarray | None
) -> np.ndarray:
    """Keys of all half-edges, sorted in place: keys are unique, so any sort will do."""
    event_ids = np.arange(stream.num_events) if keep is None else np.flatnonzero(keep)
    src, dst = (stream.src, stream.dst) if keep is None else (stream.src[keep], stream.dst[keep])
    distinct = src != dst
    num_second = int(np.count_nonzero(distinct))
    keys = np.empty(event_ids.size + num_second, dtype=np.int64)
    keys[: event_ids.size] = _rank(src, present)
    keys[event_ids.size :] = _rank(dst[distinct] if num_second < dst.size else dst, present)
    keys *= stream.num_events
    keys[: event_ids.size] += event_ids
    keys[event_ids.size :] += event_ids[distinct] if num_second < dst.size else event_ids
    keys.sort()
    return keys


def _rank(nodes: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    return nodes if present is None else np.searchsorted(present, nodes)
