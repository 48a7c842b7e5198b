"""Conversion of another library's columns to streams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pres_dist import arguments
from pres_dist.errors import DataError
from pres_dist.events.chunk import as_int64
from pres_dist.events.stream import EventStream


@dataclass(frozen=True)
class Columns:
    """Columns of another library's object, before they are checked.

    Attributes:
        what: name of the object, for errors.
        src, dst, t: columns with one value per event.
        num_nodes: number of nodes; None for the largest node number plus 1.
        num_sources: number of sources; None if unknown.
        edge_features, labels, node_features: None if absent.
    """

    what: str
    src: np.ndarray
    dst: np.ndarray
    t: np.ndarray
    num_nodes: int | None = None
    num_sources: int | None = None
    edge_features: np.ndarray | None = None
    labels: np.ndarray | None = None
    node_features: np.ndarray | None = None


def stream_of_columns(
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
        columns = _sorted(columns)
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
    try:
        stream = EventStream.from_arrays(
            columns.src,
            columns.dst,
            _whole(columns.t, "t"),
            num_nodes=num_nodes,
            edge_features=_table(columns.edge_features),
            node_features=_table(columns.node_features),
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


def array_of(tensor: torch.Tensor, what: str) -> np.ndarray:
    """Return a tensor as an array, without rounding; raise DataError for complex numbers."""
    if tensor.is_complex():
        raise DataError(f"{what} must be real numbers, got {tensor.dtype}")
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    # numpy has no bfloat16, whose values are all float32.
    plain = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray = plain.detach().cpu().resolve_neg().numpy()
    return array


def need(values: dict[str, Any], name: str, what: str, given: Iterable[object] = ()) -> Any:
    """Return a required one-dimensional column; raise DataError if it is missing.

    Args:
        values: columns by name.
        name: name of the column.
        what: name of the object that holds the columns, for errors.
        given: names of all columns, for errors; the names in `values` if empty.
    """
    if values.get(name) is None:
        known = ", ".join(sorted(str(key) for key in given or values)) or "none"
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


def _sorted(columns: Columns) -> Columns:
    order = np.argsort(columns.t, kind="stable")
    names = ("src", "dst", "t", "edge_features", "labels")
    rows: dict[str, Any] = {
        name: values[order] for name in names if (values := getattr(columns, name)) is not None
    }
    return replace(columns, **rows)


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


def _table(values: np.ndarray | None) -> np.ndarray | None:
    """Return features as rows; one number per event or node becomes a row of length 1."""
    return values[:, None] if values is not None and values.ndim == 1 else values
