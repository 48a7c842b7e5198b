"""Conversion of streams from and to other libraries, which are imported only when used."""

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
    """Methods of `EventStream` for DataFrames, Parquet files, PyG and DGL."""

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
        """Build a stream from a DataFrame, as ``pres-dist data import`` does from a file.

        Args:
            frame: a DataFrame or an Arrow table with one event per row, in time order unless
                ``sort=True``.
            src, dst, t, label: names of the columns; ids may be texts, times timestamps.
            features: columns of edge features; f0, f1, ... when None, none when empty.
            bipartite: True if sources and destinations are two separate sets of ids.
            out: directory to store it in (required for training); in memory when None.
            options: fields of ``ImportConfig``: name, ids, sort, time_unit, time_scale, force,
                feature_file, node_features.

        Raises:
            ArgumentError: an argument is not valid.
            DataError: a column is missing, or a value is not valid; the error shows its row.

        Warns:
            PresDistWarning: the notes that ``pres-dist data import`` prints.
        """
        from pres_dist.events.frames import stream_of

        if isinstance(frame, (str, Path)):
            raise ArgumentError(
                f"frame must be a DataFrame or an Arrow table, got {frame!r}: from_parquet reads "
                "files"
            )
        return stream_of(
            frame,
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
        """Build a stream from a Parquet file; arguments and errors are as in ``from_pandas``."""
        from pres_dist.events.frames import stream_of

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
        """Build a stream from a `torch_geometric.data.TemporalData`.

        Args:
            data: events with `src`, `dst` and `t`; `msg` becomes edge features, `y` labels, and
                `x` node features.
            like: a stream of the same nodes; its name, ids, sides and metadata are taken over.
            name: name of the stream.
            bipartite: True if sources and destinations are two sets; None detects it.
            sort: sort by time (stable); without it, events out of order are an error.
            out: directory to store it in (required for training); in memory when None.

        Raises:
            DataError: the events are not valid, or do not fit the nodes of `like`.
        """
        from pres_dist.events.graph_libraries import from_pyg

        return from_pyg(data, like=like, name=name, bipartite=bipartite, sort=sort, out=out)

    def to_pyg(self) -> Any:
        """Return the events as a `torch_geometric.data.TemporalData`, in their order.

        It has `src`, `dst` and `t`; `msg` if there are edge features, `y` if labels, and `x` if
        node features. Nodes are numbers; `raw_ids` returns their ids.

        Raises:
            ConfigError: torch_geometric is not installed.
        """
        from pres_dist.events.graph_libraries import to_pyg

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
        """Build a stream from a `dgl.DGLGraph` with one type of edges, in the order of edge ids.

        Args:
            graph: graph with times `t` on the edges; `feat` of edges and of nodes become
                features, `label` of edges labels. With two types of nodes the stream is
                bipartite.
            like, name, bipartite, sort, out: as in `from_pyg`.

        Raises:
            DataError: the events are not valid, or do not fit the nodes of `like`.
        """
        from pres_dist.events.graph_libraries import from_dgl

        return from_dgl(graph, like=like, name=name, bipartite=bipartite, sort=sort, out=out)

    def to_dgl(self) -> Any:
        """Return the events as a `dgl.DGLGraph` of all nodes, with one edge per event, in order.

        Edges have `t`, and `feat` and `label` if the stream has them; nodes have `feat`.

        Raises:
            ConfigError: DGL is not installed.
        """
        from pres_dist.events.graph_libraries import to_dgl

        return to_dgl(self)  # type: ignore[arg-type]
