"""Temporal adjacency: the events of each node before a query.

The half-edges of the stream are stored as one sorted tensor of composite keys
``node * num_events + event_id``. The history of a node before an event is then a
contiguous range, found for all queries at once by ``torch.searchsorted``:
no loop, no custom kernel, the same code on CPU and GPU.

Shapes: E events, H half-edges (2E less self-loops), Q queries.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.sampling import AdjacencyHome
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables, tensor_of
from pres_dist.sampling.event_groups import find
from pres_dist.sampling.sorted_keys import HalfEdges
from pres_dist.sampling.stored_keys import keys_of


class TemporalAdjacency:
    """Histories of all nodes, in event order, on one device.

    A query is a node and ``before``, the id of the first event that it must not
    see. `first_event_at` maps a time to such a bound, so that events at the query's
    own time are outside the history.
    A self-loop is one event, and appears once in the history of its node.

    Args:
        stream: the events.
        tables: their columns, on the device of the adjacency.
        keep: [E] bool, False for events to exclude from histories; None keeps all.
        home: location of the keys, as in `SamplingConfig.adjacency`. On disk and with a CPU
            device, the keys are a memory map.

    Raises:
        DataError: too many nodes x events, or the keys cannot be stored on disk as asked.
    """

    def __init__(
        self,
        stream: EventStream,
        tables: EventTables,
        keep: np.ndarray | None = None,
        home: AdjacencyHome = "auto",
    ) -> None:
        self.num_events = stream.num_events
        edges = HalfEdges(stream, keep)
        present, device = edges.present_R, tables.device
        self._keys_H = tensor_of(keys_of(edges, home), device)
        self._present = None if present is None else tensor_of(present, device)
        self._tables = tables

    @property
    def num_half_edges(self) -> int:
        """Number of events in all histories."""
        return self._keys_H.numel()

    def first_event_at(self, t_Q: Tensor) -> Tensor:
        """Return the id of the first event at or after each time: the bound of a query then."""
        return torch.searchsorted(self._tables.t_E, t_Q)

    def first_event_after(self, t_Q: Tensor) -> Tensor:
        """Return the id of the first event later than each time."""
        return torch.searchsorted(self._tables.t_E, t_Q, right=True)

    def history(self, nodes_Q: Tensor, before_Q: Tensor, since: int = 0) -> tuple[Tensor, Tensor]:
        """Return positions [start, end) of each node's events with since <= event id < before.

        Shapes broadcast.
        """
        rank_Q, known_Q = self._rank(nodes_Q)
        first_Q = rank_Q * self.num_events
        if since:  # a bound below it must give an empty history
            first_Q += since if known_Q is None else since * known_Q
            before_Q = before_Q.clamp(min=since)
        return torch.searchsorted(self._keys_H, first_Q), self._end(rank_Q, known_Q, before_Q)

    def end(self, nodes_Q: Tensor, before_Q: Tensor) -> Tensor:
        """Return the `end` that `history` returns."""
        return self._end(*self._rank(nodes_Q), before_Q)

    def _end(self, rank_Q: Tensor, known_Q: Tensor | None, before_Q: Tensor) -> Tensor:
        if known_Q is not None:
            before_Q = before_Q * known_Q
        return torch.searchsorted(self._keys_H, torch.add(before_Q, rank_Q, alpha=self.num_events))

    def event_at(self, nodes: Tensor, positions: Tensor) -> Tensor:
        """Return the event ids at positions of the nodes' histories (same shape)."""
        if not self.num_half_edges:  # no event was kept: there is no position to read
            return torch.zeros_like(positions)
        return torch.sub(self._keys_H[positions], self._rank(nodes)[0], alpha=self.num_events)

    def other_endpoint(self, nodes: Tensor, events: Tensor) -> Tensor:
        """Return the endpoint of each event that is not the given one; itself for a self-loop."""
        flat = events.flatten()
        ends = (column.index_select(0, flat) for column in (self._tables.src_E, self._tables.dst_E))
        src, dst = (end.view(events.shape) for end in ends)
        return src ^ dst ^ nodes  # the given endpoint cancels out

    def times(self, events: Tensor) -> Tensor:
        """Return the int64 times of events (same shape)."""
        return self._tables.times(events)

    @property
    def endpoints(self) -> tuple[Tensor, Tensor]:
        """[E] sources and destinations of all events, including those excluded from histories."""
        return self._tables.src_E, self._tables.dst_E

    @property
    def device(self) -> torch.device:
        """Device of queries and results."""
        return self._tables.device

    def _rank(self, nodes: Tensor) -> tuple[Tensor, Tensor | None]:
        # Nodes that do not occur have no rank: they get a valid one, and a mask that is False.
        return (nodes, None) if self._present is None else find(self._present, nodes)
