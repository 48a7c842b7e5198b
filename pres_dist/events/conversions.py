"""Streams out of what other libraries hold, and the other way; each is imported when used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pres_dist import arguments
from pres_dist.arguments import checked_call
from pres_dist.errors import ArgumentError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from pres_dist.events.stream import EventStream


class Conversions:
    """What `EventStream` has of DataFrames, Parquet files, PyG and DGL."""

    @classmethod
    @checked_call
    def from_pandas(
        cls,
        frame: pd.DataFrame | pa.Table,
        *,
        src: str = "src",
        dst: str = "dst",
        t: str = "t",
        label: str | None = None,
        features: Sequence[str] | None = None,
        bipartite: bool = False,
        out: str | Path | None = None,
        **options: Any,
    ) -> EventStream:
        """Make a stream of a DataFrame, as ``pres-dist data import`` makes one of a file.

        Args:
            frame: a DataFrame or an Arrow table; an event a row, in time order unless
                ``sort=True``.
            src, dst, t, label: names of the columns; ids may be texts, times timestamps.
            features: columns of edge features; f0, f1, ... when None, none when empty.
            bipartite: sources and destinations are two separate sets of ids.
            out: directory to store it in, which training needs; in memory when None.
            options: fields of ``ImportConfig``: name, ids, sort, time_unit, time_scale, force,
                feature_file, node_features.

        Raises:
            ArgumentError: an argument that cannot be used.
            DataError: a missing column, or a value that is not valid, with its row.

        Warns:
            PresDistWarning: what ``pres-dist data import`` says in its notes.
        """
        from pres_dist.events.from_tables import stream_of

        return stream_of(
            _table(frame),
            columns={"src": src, "dst": dst, "t": t, "label": label},
            features=features,
            bipartite=bipartite,
            out=out,
            options=options,
        )

    @classmethod
    @checked_call
    def from_parquet(
        cls,
        path: str | Path,
        *,
        src: str = "src",
        dst: str = "dst",
        t: str = "t",
        label: str | None = None,
        features: Sequence[str] | None = None,
        bipartite: bool = False,
        out: str | Path | None = None,
        **options: Any,
    ) -> EventStream:
        """Make a stream of a Parquet file; arguments and errors as in ``from_pandas``."""
        from pres_dist.events.from_tables import stream_of

        return stream_of(
            arguments.path("path", path),
            columns={"src": src, "dst": dst, "t": t, "label": label},
            features=features,
            bipartite=bipartite,
            out=out,
            options=options,
        )

    @classmethod
    @checked_call
    def from_pyg(
        cls,
        data: Any,
        *,
        like: EventStream | None = None,
        name: str | None = None,
        bipartite: bool | None = None,
        sort: bool = False,
        out: str | Path | None = None,
    ) -> EventStream:
        """Make a stream of a `torch_geometric.data.TemporalData`.

        Args:
            data: with `src`, `dst` and `t`; `msg` becomes edge features, `y` labels, and `x`
                node features.
            like: a stream of the same nodes, whose name, ids, sides and metadata it gets.
            name: of the stream.
            bipartite: whether sources and destinations are two sets; None looks.
            sort: sort by time, stably; events out of order are an error without it.
            out: directory to store it in, which training needs; in memory when None.

        Raises:
            DataError: the events are not valid, or not those of `like`'s nodes.
        """
        from pres_dist.events.interop.pyg import from_pyg

        return from_pyg(data, like=like, name=name, bipartite=bipartite, sort=sort, out=out)

    def to_pyg(self) -> Any:
        """The events as a `torch_geometric.data.TemporalData`, in their order.

        `src`, `dst` and `t`; `msg` if there are edge features, `y` if labels, and `x` if node
        features. Nodes are numbers; `raw_ids` tells the ids.

        Raises:
            ConfigError: torch_geometric is not installed.
        """
        from pres_dist.events.interop.pyg import to_pyg

        return to_pyg(self)  # type: ignore[arg-type]

    @classmethod
    @checked_call
    def from_dgl(
        cls,
        graph: Any,
        *,
        like: EventStream | None = None,
        name: str | None = None,
        bipartite: bool | None = None,
        sort: bool = False,
        out: str | Path | None = None,
    ) -> EventStream:
        """Make a stream of a `dgl.DGLGraph` with one type of edges, by edge id.

        Args:
            graph: with times `t` on the edges; `feat` of edges and of nodes become features,
                `label` of edges labels. Between two types of nodes the stream is bipartite.
            like, name, bipartite, sort, out: as in `from_pyg`.

        Raises:
            DataError: the events are not valid, or not those of `like`'s nodes.
        """
        from pres_dist.events.interop.dgl import from_dgl

        return from_dgl(graph, like=like, name=name, bipartite=bipartite, sort=sort, out=out)

    def to_dgl(self) -> Any:
        """The events as a `dgl.DGLGraph` of all nodes: an edge an event, in their order.

        Edges have `t`, and `feat` and `label` where the stream has them; nodes `feat`.

        Raises:
            ConfigError: DGL is not installed.
        """
        from pres_dist.events.interop.dgl import to_dgl

        return to_dgl(self)  # type: ignore[arg-type]


def _table(frame: object) -> object:
    """A frame, and not the path of a file, which `from_tables` would read."""
    if isinstance(frame, (str, Path)):
        raise ArgumentError(
            f"frame must be a DataFrame or an Arrow table, got {frame!r}: from_parquet reads files"
        )
    return frame
