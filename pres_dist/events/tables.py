"""The columns of a stream as tensors, looked up by event or node id."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from pres_dist.events.standardize import Affine
from pres_dist.events.stream import EventStream


class EventTables:
    """Columns of a stream on one device; on the CPU they share the stream's memory map.

    Args:
        stream: the events.
        device: where look-ups take place.
        edge_scaling: applied to edge features as they are looked up; none when None.
        node_scaling: likewise for node features.
    """

    def __init__(
        self,
        stream: EventStream,
        device: torch.device | str = "cpu",
        edge_scaling: Affine | None = None,
        node_scaling: Affine | None = None,
    ) -> None:
        self.src_E = tensor_of(stream.src, device)
        self.dst_E = tensor_of(stream.dst, device)
        self.t_E = tensor_of(stream.t, device)
        self._edges = _Features(stream.edge_features, edge_scaling, device)
        self._nodes = _Features(stream.node_features, node_scaling, device)

    @property
    def device(self) -> torch.device:
        return self.t_E.device

    @property
    def edge_dim(self) -> int:
        """Features of an event, 0 for none."""
        return self._edges.dim

    @property
    def edge_scaling(self) -> tuple[Tensor, Tensor] | None:
        """[d_e] scale and [d_e] shift that features are looked up with; None for none."""
        return self._edges.scaling

    def times(self, events: Tensor) -> Tensor:
        """int64 times of events, in the shape of the ids."""
        return self.t_E.index_select(0, events.flatten()).view(events.shape)

    def is_endpoint(self, nodes: Tensor, events: Tensor) -> Tensor:
        """bool, whether nodes are endpoints of events; shapes as they broadcast."""
        flat = events.flatten()
        ends = (column.index_select(0, flat) for column in (self.src_E, self.dst_E))
        src, dst = (end.view(events.shape) for end in ends)
        return (src == nodes) | (dst == nodes)

    def edge_features(self, events: Tensor) -> Tensor | None:
        """[..., d_e] features of events; None for a stream without."""
        return self._edges.rows(events)

    def node_features(self, nodes: Tensor) -> Tensor | None:
        """[..., d_n] features of nodes; None for a stream without."""
        return self._nodes.rows(nodes)


class _Features:
    """A table of features, scaled as it is read: the stored table stays shared and as it is."""

    def __init__(
        self, table: np.ndarray | None, scaling: Affine | None, device: torch.device | str
    ) -> None:
        self._table = None if table is None else tensor_of(table, device)
        self.scaling: tuple[Tensor, Tensor] | None = None
        if scaling is not None:
            self.scaling = tensor_of(scaling.scale, device), tensor_of(scaling.shift, device)

    @property
    def dim(self) -> int:
        return 0 if self._table is None else self._table.shape[1]

    def rows(self, ids: Tensor) -> Tensor | None:
        if self._table is None:
            return None
        rows = self._table.index_select(0, ids.flatten()).view(*ids.shape, self._table.shape[1])
        if self.scaling is None:
            return rows
        scale, shift = self.scaling
        return torch.addcmul(shift, rows, scale, out=rows)


def tensor_of(column: np.ndarray, device: torch.device | str) -> Tensor:
    """A column on a device; on the CPU it shares the memory, or the memory map."""
    with warnings.catch_warnings():
        # A memory map is read-only, and nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column).to(device)
