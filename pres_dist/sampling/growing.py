"""Tables, histories and pairs of a growing stream: events are appended and never change.

Shapes: H half-edges or pairs of appended events, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.chunk import EventChunk
from pres_dist.events.tables import EventTables
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.event_groups import EventGroups
from pres_dist.sampling.event_log import PairLog

_STRIDE = 1 << 35
"""Number of event ids per node or pair in a composite key."""
_MOST_NODES = (1 << 63) // _STRIDE
_PAIR_NODES = 1 << 31
"""Number of nodes in the key of a pair; `GrowingAdjacency` allows fewer."""


class _Column:
    """Tensor that rows can be appended to; shares the memory of its first rows until then."""

    def __init__(self, first: Tensor) -> None:
        self._room, self._num = first, first.shape[0]

    @property
    def values(self) -> Tensor:
        """View of all rows."""
        return self._room[: self._num]

    def append(self, rows: Tensor) -> None:
        """Add rows at the end."""
        end = self._num + rows.shape[0]
        if end > self._room.shape[0]:
            room = self._room.new_empty(max(end, self._num * 3 // 2, 1024), *rows.shape[1:])
            room[: self._num] = self.values
            self._room = room
        self._room[self._num : end] = rows
        self._num = end


class GrowingTables(EventTables):
    """Columns of a stream and of the events appended since."""

    def __init__(self, known: EventTables) -> None:
        self._known, self.num_known = known, known.t_E.numel()
        columns = (known.src_E, known.dst_E, known.t_E)
        self._src, self._dst, self._t = (_Column(column) for column in columns)
        self._late = _Column(torch.empty(0, known.edge_dim, device=known.device))
        self.src_E, self.dst_E, self.t_E = columns

    def append(self, events: EventChunk) -> None:
        """Add events; their features must be unscaled and are scaled here."""
        columns = zip(
            (self._src, self._dst, self._t), (events.src, events.dst, events.t), strict=True
        )
        for column, values in columns:
            column.append(torch.from_numpy(values).to(self.device))
        self.src_E, self.dst_E, self.t_E = self._src.values, self._dst.values, self._t.values
        if events.edge_features is not None:
            rows = torch.from_numpy(events.edge_features).to(self.device)
            if self.edge_scaling is not None:
                scale, shift = self.edge_scaling
                rows = torch.addcmul(shift, rows, scale)
            self._late.append(rows)

    @property
    def edge_dim(self) -> int:
        """Number of features of an event; 0 if it has none."""
        return self._known.edge_dim

    @property
    def edge_scaling(self) -> tuple[Tensor, Tensor] | None:
        """Scaling of features at look-up, as of the stream."""
        return self._known.edge_scaling

    def edge_features(self, events: Tensor) -> Tensor | None:
        """Return the [..., d_e] features of events; None if the stream has none."""
        late = events >= self.num_known
        if not self.edge_dim or not bool(late.any()):
            return self._known.edge_features(events)
        rows = self._known.edge_features(torch.where(late, 0, events))
        assert rows is not None
        rows[late] = self._late.values[events[late] - self.num_known]
        return rows

    def node_features(self, nodes: Tensor) -> Tensor | None:
        """Return the [..., d_n] features of nodes; None if the stream has none."""
        return self._known.node_features(nodes)


class GrowingAdjacency(TemporalAdjacency):
    """Histories that include appended events; see `TemporalAdjacency`.

    A history is the node's events in the stream followed by its appended events, which are
    all later; positions run through both. An append copies the keys of all events appended
    so far. Raises ``DataError`` for too many nodes.
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
        """Number of events in all histories."""
        return self._known.num_half_edges + self._late_H.numel()

    def append(self, num: int) -> None:
        """Add the last `num` events of the tables."""
        first, end = self.num_events, self.num_events + num
        src, dst = self._tables.src_E[first:end], self._tables.dst_E[first:end]
        assert int(torch.maximum(src.max(), dst.max())) < _MOST_NODES
        events = torch.arange(first, end, device=src.device)
        twice = src != dst
        new = torch.cat([src * _STRIDE + events, (dst * _STRIDE + events)[twice]])
        # The place of a new key is its rank among the old ones plus its rank among the new ones.
        place = torch.searchsorted(self._late_H, new := new.sort().values)
        place += torch.arange(new.numel(), device=new.device)
        self._late_H, self.num_events = _merged(self._late_H, new, place), end

    def history(self, nodes_Q: Tensor, before_Q: Tensor, since: int = 0) -> tuple[Tensor, Tensor]:
        """Return positions [start, end) as `TemporalAdjacency` does."""
        known_Q = before_Q.clamp(max=self._num_known)
        start_Q, end_Q = self._known.history(nodes_Q, known_Q, since)
        return start_Q, self._with_late(end_Q, nodes_Q, before_Q)

    def end(self, nodes_Q: Tensor, before_Q: Tensor) -> Tensor:
        """Return the `end` that `history` returns."""
        end_Q = self._known.end(nodes_Q, before_Q.clamp(max=self._num_known))
        return self._with_late(end_Q, nodes_Q, before_Q)

    def event_at(self, nodes: Tensor, positions: Tensor) -> Tensor:
        """Return the event ids at positions of the nodes' histories (same shape)."""
        if not self._late_H.numel():
            return self._known.event_at(nodes, positions)
        # If one node is expanded over all positions of a row, look it up once.
        once = nodes[..., :1] if nodes.dim() > 1 and nodes.stride(-1) == 0 else nodes
        once = once.contiguous()
        last = torch.full_like(once, self._num_known)
        known_end = self._known.end(once, last)
        late_start = self._late_start(once)
        late = positions >= known_end
        place = (late_start + positions - known_end).clamp(0, self._late_H.numel() - 1)
        # Positions behind the stream's events are out of range there, hence replaced by 0.
        known = self._known.event_at(nodes, torch.where(late, 0, positions))
        return torch.where(late, self._late_H[place] - once * _STRIDE, known)

    def _with_late(self, end_Q: Tensor, nodes_Q: Tensor, before_Q: Tensor) -> Tensor:
        """Add the number of the nodes' appended events before an event."""
        if not self._late_H.numel():
            return end_Q
        key_Q = nodes_Q * _STRIDE + before_Q.clamp(min=self._num_known)
        return end_Q + torch.searchsorted(self._late_H, key_Q) - self._late_start(nodes_Q)

    def _late_start(self, nodes: Tensor) -> Tensor:
        """Return the position of the nodes' first appended event."""
        return torch.searchsorted(self._late_H, nodes * _STRIDE + self._num_known)


class GrowingPairs(PairLog):
    """A log that includes appended events; an append copies the keys of all of them."""

    def __init__(self, known: PairLog, tables: GrowingTables, num_nodes: int) -> None:
        self._known, self._tables, self._num_nodes = known, tables, num_nodes
        self._first = self._seen = tables.num_known
        self._late_H = self._start_H = torch.empty(0, dtype=torch.int64, device=tables.device)

    def append(self) -> None:
        """Add the events appended to the tables since the last call."""
        tables, seen, old_H = self._tables, self._seen, self._late_H
        end = tables.t_E.numel()
        key = tables.src_E[seen:end] * _PAIR_NODES + tables.dst_E[seen:end]
        new = key.sort(stable=True)  # events of one pair stay in time order
        key, event = new.values, new.indices + seen
        start = torch.searchsorted(old_H, key) + torch.searchsorted(key, key)
        # Old pairs start later by the number of new events of pairs that sort before them.
        moved_H = self._start_H + torch.searchsorted(key, old_H) * _STRIDE
        place = torch.searchsorted(old_H, key, right=True)
        place += torch.arange(key.numel(), device=key.device)
        self._late_H = _merged(old_H, key, place)
        self._start_H = _merged(moved_H, start * _STRIDE + event, place)
        self._seen = end

    def before(self, src_Q: Tensor, dst_Q: Tensor, before_Q: Tensor) -> tuple[Tensor, Tensor]:
        """Count each pair's events with id < before; also return the id of the last, or -1."""
        known_Q = torch.maximum(src_Q, dst_Q) < self._num_nodes
        query = (src_Q, dst_Q, before_Q.clamp(max=self._first))
        # For a pair with a new node, query before event 0, where no pair has events.
        count_Q, latest_Q = self._known.before(*(torch.where(known_Q, each, 0) for each in query))
        if not self._late_H.numel():
            return count_Q, latest_Q
        key_Q = src_Q * _PAIR_NODES + dst_Q
        late = EventGroups(self._late_H, self._start_H, _STRIDE)
        late_Q, newest_Q = late.last(key_Q, before_Q)
        return count_Q + late_Q, torch.where(late_Q > 0, newest_Q, latest_Q)


def _merged(old_H: Tensor, new: Tensor, place: Tensor) -> Tensor:
    """Insert new rows at their places among the old ones."""
    merged = new.new_empty(old_H.numel() + new.numel())
    old = torch.ones_like(merged, dtype=torch.bool)
    old[place] = False
    merged[place], merged[old] = new, old_H
    return merged
