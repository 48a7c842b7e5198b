"""Columns of a stream as tensors, looked up by event or node id."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.events.stream import EventStream

_MOST_ROWS = 1_000_000
"""Approximate limit of the evenly spaced rows that mean and deviation are estimated from."""


@dataclass(frozen=True)
class Affine:
    """x -> x * scale + shift, feature by feature; float32 [d] each."""

    scale: np.ndarray
    shift: np.ndarray


def standardize(features: np.ndarray) -> Affine:
    """Return the map that gives each feature mean 0 and deviation 1; constants become 0.

    Args:
        features: [rows, d] features that are known in training.
    """
    rows = np.asarray(features[:: max(1, len(features) // _MOST_ROWS)], dtype=np.float64)
    mean, deviation = rows.mean(0), rows.std(0)
    # Rounding may give a constant feature a tiny deviation; scaled values must stay finite.
    constant = deviation <= np.maximum(1e-9 * np.abs(mean), np.finfo(np.float32).tiny)
    scale = 1 / np.where(constant, 1.0, deviation)
    return Affine(scale.astype(np.float32), (-mean * scale).astype(np.float32))


class EventTables:
    """Columns of a stream on one device; on the CPU they share the stream's memory map.

    Features are scaled at look-up; None for no scaling.
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
        """Device of all columns."""
        return self.t_E.device

    @property
    def edge_dim(self) -> int:
        """Number of features of an event; 0 if it has none."""
        return self._edges.dim

    @property
    def edge_scaling(self) -> tuple[Tensor, Tensor] | None:
        """[d_e] scale and [d_e] shift applied to features at look-up; None for no scaling."""
        return self._edges.scaling

    def times(self, events: Tensor) -> Tensor:
        """Return the int64 times of events, in the shape of the ids."""
        return self.t_E.index_select(0, events.flatten()).view(events.shape)

    def is_endpoint(self, nodes: Tensor, events: Tensor) -> Tensor:
        """Return a bool tensor, True where a node is an endpoint of its event; shapes broadcast."""
        flat = events.flatten()
        ends = (column.index_select(0, flat) for column in (self.src_E, self.dst_E))
        src, dst = (end.view(events.shape) for end in ends)
        return (src == nodes) | (dst == nodes)

    def edge_features(self, events: Tensor) -> Tensor | None:
        """Return the [..., d_e] features of events; None if the stream has none."""
        return self._edges.rows(events)

    def node_features(self, nodes: Tensor) -> Tensor | None:
        """Return the [..., d_n] features of nodes; None if the stream has none."""
        return self._nodes.rows(nodes)


class _Features:
    """Feature table, scaled at look-up so that the stored table stays shared and unchanged."""

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
        # `rows` is a copy of the table's rows, so it can be scaled in place.
        return torch.addcmul(shift, rows, scale, out=rows)


def tensor_of(column: np.ndarray, device: torch.device | str) -> Tensor:
    """Return a column as a tensor; on the CPU it shares the memory or memory map."""
    with warnings.catch_warnings():
        # A memory map is read-only, and nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column).to(device)
