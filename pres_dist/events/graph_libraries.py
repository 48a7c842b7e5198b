"""Conversion of streams from and to PyG's `TemporalData` and DGL graphs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pres_dist import arguments
from pres_dist.errors import ArgumentError, ConfigError, DataError, MissingPackageError
from pres_dist.events.chunk import as_int64
from pres_dist.events.stream import EventStream

TIME, FEATURES, LABEL = "t", "feat", "label"
"""Names of the columns of a DGL graph."""


@dataclass(frozen=True)
class Columns:
    """Columns of another library's object, named `what` in errors, before they are checked."""

    what: str
    src: np.ndarray
    dst: np.ndarray
    t: np.ndarray
    num_nodes: int | None = None
    num_sources: int | None = None
    edge_features: np.ndarray | None = None
    labels: np.ndarray | None = None
    node_features: np.ndarray | None = None


def from_pyg(data: Any, **options: Any) -> EventStream:
    """See `EventStream.from_pyg`."""
    if not callable(getattr(data, "to_dict", None)) or hasattr(data, "iloc"):
        raise ArgumentError(f"data must be a TemporalData, got {type(data).__name__}")
    given = {name: value for name, value in data.to_dict().items() if torch.is_tensor(value)}
    used = [name for name in ("src", "dst", "t", "msg", "y", "x") if name in given]
    arrays = {name: _array_of(given[name], f"TemporalData: {name}") for name in used}
    nodes = arrays.get("x")
    src, dst, t = (_required(arrays, name, "TemporalData", given) for name in ("src", "dst", "t"))
    columns = Columns(
        "TemporalData",
        src,
        dst,
        t,
        num_nodes=None if nodes is None else len(nodes),
        edge_features=arrays.get("msg"),
        labels=arrays.get("y"),
        node_features=nodes,
    )
    return _stream_of(columns, **options)


def to_pyg(stream: EventStream) -> Any:
    """See `EventStream.to_pyg`."""
    try:
        from torch_geometric.data import TemporalData
    except ImportError:
        raise MissingPackageError("to_pyg", "torch_geometric", "pyg") from None
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


def from_dgl(graph: Any, **options: Any) -> EventStream:
    """See `EventStream.from_dgl`."""
    if not hasattr(graph, "canonical_etypes"):
        raise ArgumentError(f"graph must be a DGLGraph, got {type(graph).__name__}")
    if len(graph.canonical_etypes) != 1:
        kinds = ", ".join(str(kind) for kind in graph.canonical_etypes)
        raise DataError(f"DGLGraph: must have one type of edges, got {kinds}")
    (source, _, destination) = graph.canonical_etypes[0]
    src, dst = (ends.cpu().numpy() for ends in graph.edges(form="uv", order="eid"))
    num_sources = None
    if source != destination:
        num_sources = graph.num_nodes(source)
        dst = dst + num_sources
    edges = {
        name: _array_of(value, f"DGLGraph.edata: {name}")
        for name, value in graph.edata.items()
        if name in (TIME, FEATURES, LABEL)
    }
    columns = Columns(
        "DGLGraph",
        src,
        dst,
        _required(edges, TIME, "DGLGraph.edata", graph.edata),
        num_nodes=graph.num_nodes(),
        num_sources=num_sources,
        edge_features=edges.get(FEATURES),
        labels=edges.get(LABEL),
        node_features=_node_features(graph, source, destination),
    )
    return _stream_of(columns, **options)


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
        raise DataError(f"DGLGraph: {FEATURES} of both types of nodes must have the same size")
    return _array_of(torch.cat(found), f"DGLGraph.ndata: {FEATURES}")


def load_dgl() -> Any:
    """Return the package dgl with its PyTorch backend; raise ConfigError if import fails."""
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else DGL writes a file into the home folder
    try:
        import dgl
    except ModuleNotFoundError as error:
        if error.name == "dgl":
            raise MissingPackageError("this", "DGL", "dgl") from None
        raise ConfigError(f"DGL cannot be imported: {error}") from None
    except ImportError as error:
        raise ConfigError(f"DGL cannot be imported: {error}") from None
    return dgl


def _stream_of(
    columns: Columns,
    *,
    like: EventStream | None,
    name: str | None,
    bipartite: bool | None,
    sort: bool,
    out: str | Path | None,
) -> EventStream:
    """Build a stream from columns; arguments and errors are as in `EventStream.from_pyg`."""
    if like is not None:
        arguments.kind("like", like, EventStream, "an EventStream")
    if name is not None:
        arguments.kind("name", name, str, "a text")
    if bipartite is not None:
        arguments.flag("bipartite", bipartite)
    if out is not None:
        arguments.path("out", out)
    columns = _checked(columns)
    if arguments.flag("sort", sort):
        order = np.argsort(columns.t, kind="stable")
        events = ("src", "dst", "t", "edge_features", "labels")
        found = {name: vars(columns)[name] for name in events}
        rows = {name: values[order] for name, values in found.items() if values is not None}
        columns = replace(columns, **rows)
    about: dict[str, Any] = {"name": name or "stream", "num_sources": _sources(columns, bipartite)}
    num_nodes = columns.num_nodes
    if like is not None:
        if num_nodes is not None and num_nodes > like.num_nodes:
            raise DataError(
                f"{columns.what}: like must be a stream of the same nodes, {num_nodes} or more, "
                f"got {like.name} of {like.num_nodes}"
            )
        num_nodes = like.num_nodes
        about = {
            "name": name or like.name,
            "num_sources": like.num_sources,
            "metadata": like.metadata,
        }
    # One number per event or node becomes a row of length 1.
    edge_features, node_features = (
        table[:, None] if table is not None and table.ndim == 1 else table
        for table in (columns.edge_features, columns.node_features)
    )
    try:
        stream = EventStream.from_arrays(
            columns.src,
            columns.dst,
            _whole(columns.t, "t"),
            num_nodes=num_nodes,
            edge_features=edge_features,
            node_features=node_features,
            labels=None if columns.labels is None else _whole(columns.labels, "labels"),
            **about,
        )
    except DataError as error:
        raise DataError(f"{columns.what}: {error}") from None
    if like is not None:
        stream = replace(stream, node_ids=like.node_ids)
        if stream.num_events == like.num_events:
            prescribed = {"official_split": like.official_split, "negatives": like.negatives}
            stream = replace(stream, **prescribed)  # type: ignore[arg-type]
    return stream if out is None else stream.save(out)


def _array_of(tensor: torch.Tensor, what: str) -> np.ndarray:
    """Return a tensor as an array, without rounding; raise DataError for complex numbers."""
    if tensor.is_complex():
        raise DataError(f"{what} must be real numbers, got {tensor.dtype}")
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    # numpy has no bfloat16, whose values are all float32.
    plain = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray = plain.detach().cpu().resolve_neg().numpy()
    return array


def _required(values: dict[str, Any], name: str, what: str, given: Iterable[object]) -> Any:
    """Return a required one-dimensional column; an error lists the `given` columns of `what`."""
    if values.get(name) is None:
        known = ", ".join(sorted(str(key) for key in given)) or "none"
        raise DataError(f"{what}: must have {name}, the columns are: {known}")
    if values[name].ndim != 1:
        shape = tuple(values[name].shape)
        raise DataError(f"{what}: {name} must have one number an event, got shape {shape}")
    return values[name]


def _sources(columns: Columns, bipartite: bool | None) -> int | None:
    """Return the number of sources of a bipartite stream; None if it is not bipartite."""
    if columns.num_sources is not None or bipartite is False or not len(columns.src):
        return columns.num_sources if bipartite is not False else None
    last, first = columns.src.max(), columns.dst.min()
    if last < first:
        return int(last) + 1
    if bipartite:
        raise DataError(
            f"{columns.what}: in a bipartite stream every src must be below every dst, got src up "
            f"to {last} and dst from {first}"
        )
    return None


def _checked(columns: Columns) -> Columns:
    """Return the columns with integer ids; raise DataError if their lengths differ."""
    values = vars(columns)
    for name in ("dst", "t", "edge_features", "labels"):
        if values[name] is not None and np.shape(values[name])[:1] != columns.src.shape:
            raise DataError(
                f"{columns.what}: {name} must have {len(columns.src)} rows as src, got shape "
                f"{np.shape(values[name])}"
            )
    try:
        src, dst = (as_int64(_whole(values[name], name), name) for name in ("src", "dst"))
    except DataError as error:
        raise DataError(f"{columns.what}: {error}") from None
    return replace(columns, src=src, dst=dst)


def _whole(values: np.ndarray, what: str) -> np.ndarray:
    """Return whole floats and boolean labels as integers; raise DataError for other floats.

    Values of other types are returned unchanged, for later checks.
    """
    if values.dtype.kind == "b" and what == "labels":
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        return values
    bits = np.finfo(values.dtype).nmant + 1
    rounded = np.abs(values) >= 2.0**bits
    if rounded.any():
        place = int(np.argmax(rounded))
        raise DataError(
            f"event {place}: {what} must be below 2**{bits} as a floating-point number, which is "
            f"rounded from there on; give integers, got {values[place]}"
        )
    with np.errstate(invalid="ignore"):
        integers = values.astype(np.int64)
    if not np.array_equal(integers, values):
        place = int(np.argmax(integers != values))
        raise DataError(f"event {place}: {what} must be an integer, got {values[place]}")
    return integers
