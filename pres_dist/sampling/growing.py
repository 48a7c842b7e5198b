"""Histories of a growing stream: events are appended and never change.

Shapes: H half-edges of appended events, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.growing import GrowingTables
from pres_dist.sampling.adjacency import TemporalAdjacency

_STRIDE = 1 << 35
"""Number of event ids per node in a composite key."""
_MOST_NODES = (1 << 63) // _STRIDE


class GrowingAdjacency(TemporalAdjacency):
    """Histories that include appended events; see `TemporalAdjacency`.

    A history is the node's events in the stream followed by its appended events, which are
    all later; positions run through both. An append copies the keys of all events appended
    so far.

    Args:
        known: histories of the stream.
        tables: its columns, including appended events.
        num_nodes: number of nodes of the stream.

    Raises:
        DataError: too many nodes.
    """

    def __init__(self, known: TemporalAdjacency, tables: GrowingTables, num_nodes: int) -> None:
        if num_nodes > _MOST_NODES // 2:
            raise DataError(
                f"a stream that is to go on must have at most {_MOST_NODES // 2:,} nodes, got "
                f"{num_nodes:,}"
            )
        self._known, self._tables = known, tables
        self.num_events = self._num_known = tables.num_known
        self._late_H = torch.empty(0, dtype=torch.int64, device=tables.device)

    @property
    def num_half_edges(self) -> int:
        return self._known.num_half_edges + self._late_H.numel()

    def append(self, num: int) -> None:
        """Add the last `num` events of the tables."""
        first, end = self.num_events, self.num_events + num
        src, dst = self._tables.src_E[first:end], self._tables.dst_E[first:end]
        assert int(torch.maximum(src.max(), dst.max())) < _MOST_NODES
        events = torch.arange(first, end, device=src.device)
        twice = src != dst
        new = torch.cat([src * _STRIDE + events, (dst * _STRIDE + events)[twice]])
        place = torch.searchsorted(self._late_H, new := new.sort().values)
        place += torch.arange(new.numel(), device=new.device)
        merged = new.new_empty(self._late_H.numel() + new.numel())
        old = torch.ones_like(merged, dtype=torch.bool)
        old[place] = False
        merged[place], merged[old] = new, self._late_H
        self._late_H, self.num_events = merged, end

    def history(self, nodes_Q: Tensor, before_Q: Tensor, since: int = 0) -> tuple[Tensor, Tensor]:
        first = self._num_known
        start_Q, end_Q = self._known.history(nodes_Q, before_Q.clamp(max=first), since)
        if not self._late_H.numel():
            return start_Q, end_Q
        late_start_Q, late_end_Q = self._late(nodes_Q, before_Q.clamp(min=first))
        return start_Q, end_Q + late_end_Q - late_start_Q

    def event_at(self, nodes: Tensor, positions: Tensor) -> Tensor:
        if not self._late_H.numel():
            return self._known.event_at(nodes, positions)
        # If one node is expanded over all positions of a row, look it up once.
        once = nodes[..., :1] if nodes.dim() > 1 and nodes.stride(-1) == 0 else nodes
        once = once.contiguous()
        last = torch.full_like(once, self._num_known)
        _, known_end = self._known.history(once, last)
        late_start, _ = self._late(once, last)
        late = positions >= known_end
        place = (late_start + positions - known_end).clamp(0, self._late_H.numel() - 1)
        known = self._known.event_at(nodes, torch.where(late, 0, positions))
        return torch.where(late, self._late_H[place] - once * _STRIDE, known)

    def _late(self, nodes: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions [start, end) of the nodes' appended events before an event."""
        base = nodes * _STRIDE
        bounds = torch.stack([base + self._num_known, base + before])
        start, end = torch.searchsorted(self._late_H, bounds)
        return start, end
