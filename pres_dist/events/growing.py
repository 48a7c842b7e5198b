"""Columns of a growing stream: events are appended and never changed."""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.events.chunk import EventChunk
from pres_dist.events.tables import EventTables


class Column:
    """Tensor that rows can be appended to; its buffer has room for more rows.

    Args:
        first: initial rows; their memory is shared until rows are appended.
    """

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
    """Columns of a stream and of the events appended since.

    Args:
        known: the columns of the stream.
    """

    def __init__(self, known: EventTables) -> None:
        self._known, self.num_known = known, known.t_E.numel()
        columns = (known.src_E, known.dst_E, known.t_E)
        self._src, self._dst, self._t = (Column(column) for column in columns)
        self._late = Column(torch.empty(0, known.edge_dim, device=known.device))
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
        return self._known.edge_dim

    @property
    def edge_scaling(self) -> tuple[Tensor, Tensor] | None:
        return self._known.edge_scaling

    def edge_features(self, events: Tensor) -> Tensor | None:
        late = events >= self.num_known
        if not self.edge_dim or not bool(late.any()):
            return self._known.edge_features(events)
        rows = self._known.edge_features(torch.where(late, 0, events))
        assert rows is not None
        rows[late] = self._late.values[events[late] - self.num_known]
        return rows

    def node_features(self, nodes: Tensor) -> Tensor | None:
        return self._known.node_features(nodes)
