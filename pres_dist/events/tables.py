"""The columns of a stream as tensors, looked up by event or node id."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from pres_dist.events.stream import EventStream


class EventTables:
    """Columns of a stream on one device; on the CPU they share the stream's memory map.

    Args:
        stream: the events.
        device: where look-ups take place.
    """

    def __init__(self, stream: EventStream, device: torch.device | str = "cpu") -> None:
        self.src_E = _tensor(stream.src, device)
        self.dst_E = _tensor(stream.dst, device)
        self.t_E = _tensor(stream.t, device)
        self._edge_Ed = _optional(stream.edge_features, device)
        self._node_Nd = _optional(stream.node_features, device)

    @property
    def device(self) -> torch.device:
        return self.t_E.device

    def times(self, events: Tensor) -> Tensor:
        """int64 times of events, in the shape of the ids."""
        return self.t_E.index_select(0, events.flatten()).view(events.shape)

    def edge_features(self, events: Tensor) -> Tensor | None:
        """[..., d_e] features of events; None for a stream without."""
        return _rows(self._edge_Ed, events)

    def node_features(self, nodes: Tensor) -> Tensor | None:
        """[..., d_n] features of nodes; None for a stream without."""
        return _rows(self._node_Nd, nodes)


def _rows(table: Tensor | None, ids: Tensor) -> Tensor | None:
    if table is None:
        return None
    return table.index_select(0, ids.flatten()).view(*ids.shape, -1)


def _optional(column: np.ndarray | None, device: torch.device | str) -> Tensor | None:
    return None if column is None else _tensor(column, device)


def _tensor(column: np.ndarray, device: torch.device | str) -> Tensor:
    with warnings.catch_warnings():
        # A memory map is read-only, and nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column).to(device)
