"""Streams out of columns that another library holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream


@dataclass(frozen=True)
class Columns:
    """Columns as another library has them.

    Attributes:
        what: the name of that to which they belong, for errors.
        src, dst, t: of each event.
        num_nodes: None for the largest one and those below.
        num_sources: None where nobody has said.
        edge_features, labels, node_features: None for none.
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
    """A stream; arguments and errors as in `EventStream.from_pyg`."""
    if sort:
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


def need(values: dict[str, Any], name: str, what: str) -> Any:
    """A column that must be there; DataError where it is not."""
    if values.get(name) is None:
        known = ", ".join(sorted(str(key) for key in values)) or "none"
        raise DataError(f"{what}: must have {name}, the columns are: {known}")
    return values[name]


def _sources(columns: Columns, bipartite: bool | None) -> int | None:
    """Sources of a bipartite stream: all nodes up to the last one; None where it is not."""
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


def _sorted(columns: Columns) -> Columns:
    order = np.argsort(columns.t, kind="stable")
    names = ("src", "dst", "t", "edge_features", "labels")
    rows: dict[str, Any] = {
        name: values[order] for name in names if (values := getattr(columns, name)) is not None
    }
    return replace(columns, **rows)


def _whole(values: np.ndarray, what: str) -> np.ndarray:
    """Numbers that are whole as integers; others as they are, to be refused."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(invalid="ignore"):
        integers = values.astype(np.int64)
    if not np.array_equal(integers, values):
        place = int(np.argmax(integers != values))
        raise DataError(f"event {place}: {what} must be an integer, got {values[place]}")
    return integers


def _table(values: np.ndarray | None) -> np.ndarray | None:
    """A row for each event or node: single numbers become rows of one."""
    return values[:, None] if values is not None and values.ndim == 1 else values
