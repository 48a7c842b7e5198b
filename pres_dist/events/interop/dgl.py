"""Conversion of streams from and to DGL graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pres_dist.errors import ArgumentError, DataError
from pres_dist.events.interop.columns import Columns, array_of, need, stream_of_columns
from pres_dist.events.interop.load_dgl import load_dgl
from pres_dist.events.stream import EventStream

_WHAT = "DGLGraph"
TIME, FEATURES, LABEL = "t", "feat", "label"


def from_dgl(graph: Any, **options: Any) -> EventStream:
    """See `EventStream.from_dgl`."""
    if not hasattr(graph, "canonical_etypes"):
        raise ArgumentError(f"graph must be a DGLGraph, got {type(graph).__name__}")
    if len(graph.canonical_etypes) != 1:
        kinds = ", ".join(str(kind) for kind in graph.canonical_etypes)
        raise DataError(f"{_WHAT}: must have one type of edges, got {kinds}")
    (source, _, destination) = graph.canonical_etypes[0]
    src, dst = (ends.cpu().numpy() for ends in graph.edges(form="uv", order="eid"))
    num_sources = None
    if source != destination:
        num_sources = graph.num_nodes(source)
        dst = dst + num_sources
    edges = {
        name: array_of(value, f"{_WHAT}.edata: {name}")
        for name, value in graph.edata.items()
        if name in (TIME, FEATURES, LABEL)
    }
    columns = Columns(
        _WHAT,
        src,
        dst,
        need(edges, TIME, f"{_WHAT}.edata", graph.edata),
        num_nodes=graph.num_nodes(),
        num_sources=num_sources,
        edge_features=edges.get(FEATURES),
        labels=edges.get(LABEL),
        node_features=_node_features(graph, source, destination),
    )
    return stream_of_columns(columns, **options)


def to_dgl(stream: EventStream) -> Any:
    """See `EventStream.to_dgl`."""
    dgl = load_dgl()
    src, dst, t = (torch.from_numpy(np.array(one)) for one in (stream.src, stream.dst, stream.t))
    graph = dgl.graph((src, dst), num_nodes=stream.num_nodes)
    graph.edata[TIME] = t
    for frame, name, values in (
        (graph.edata, FEATURES, stream.edge_features),
        (graph.edata, LABEL, stream.labels),
        (graph.ndata, FEATURES, stream.node_features),
    ):
        if values is not None:
            frame[name] = torch.from_numpy(np.array(values))
    return graph


def _node_features(graph: Any, source: str, destination: str) -> np.ndarray | None:
    """Return the [N, d] features of all nodes, sources first; None if there are none."""
    kinds = [source] if source == destination else [source, destination]
    found = [graph.nodes[kind].data.get(FEATURES) for kind in kinds]
    if all(one is None for one in found):
        return None
    if any(one is None for one in found) or len({one.shape[1:] for one in found}) > 1:
        raise DataError(f"{_WHAT}: {FEATURES} of both types of nodes must have the same size")
    return array_of(torch.cat(found), f"{_WHAT}.ndata: {FEATURES}")
