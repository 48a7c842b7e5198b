"""Conversion of streams from and to PyG's `TemporalData`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pres_dist.errors import ArgumentError, ConfigError
from pres_dist.events.interop.columns import Columns, array_of, need, stream_of_columns
from pres_dist.events.stream import EventStream

_WHAT = "TemporalData"


def from_pyg(data: Any, **options: Any) -> EventStream:
    """See `EventStream.from_pyg`."""
    if not callable(getattr(data, "to_dict", None)) or hasattr(data, "iloc"):
        raise ArgumentError(f"data must be a TemporalData, got {type(data).__name__}")
    given = {name: value for name, value in data.to_dict().items() if torch.is_tensor(value)}
    used = [name for name in ("src", "dst", "t", "msg", "y", "x") if name in given]
    arrays = {name: array_of(given[name], f"{_WHAT}: {name}") for name in used}
    nodes = arrays.get("x")
    src, dst, t = (need(arrays, name, _WHAT, given) for name in ("src", "dst", "t"))
    columns = Columns(
        _WHAT,
        src,
        dst,
        t,
        num_nodes=None if nodes is None else len(nodes),
        edge_features=arrays.get("msg"),
        labels=arrays.get("y"),
        node_features=nodes,
    )
    return stream_of_columns(columns, **options)


def to_pyg(stream: EventStream) -> Any:
    """See `EventStream.to_pyg`."""
    try:
        from torch_geometric.data import TemporalData
    except ImportError:
        raise ConfigError(
            "to_pyg needs the package torch_geometric: pip install torch_geometric"
        ) from None
    columns = {
        "src": stream.src,
        "dst": stream.dst,
        "t": stream.t,
        "msg": stream.edge_features,
        "y": stream.labels,
        "x": stream.node_features,
    }
    tensors = {
        name: torch.from_numpy(np.array(values))
        for name, values in columns.items()
        if values is not None
    }
    return TemporalData(**tensors)
