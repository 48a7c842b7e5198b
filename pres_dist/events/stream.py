"""Event streams: columns of timestamped interactions, in memory or memory-mapped.

Shapes: E events, N nodes, d_e edge features, d_n node features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pres_dist import arguments
from pres_dist.arguments import checked_call
from pres_dist.errors import DataError
from pres_dist.events.chunk import (
    EventChunk,
    as_float32,
    as_int64,
    check_finite,
    check_order,
    check_span,
    check_values,
    event_number,
)
from pres_dist.events.conversions import Conversions
from pres_dist.events.identity import StreamIdentity, identity_of
from pres_dist.events.storage import (
    NODE_IDS_FILE,
    check_content,
    check_files,
    open_array,
    read_meta,
    stored_at,
)

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_EVENTS = 1 << 20


@dataclass(frozen=True)
class EventStream(Conversions):
    """Events in time order; an event's index is its event id.

    Columns of a stream opened from disk are read-only memory maps, so that all
    processes of a machine share one copy.
    """

    name: str
    src: np.ndarray
    """[E] int64 source node."""
    dst: np.ndarray
    """[E] int64 destination node."""
    t: np.ndarray
    """[E] int64 time, non-decreasing, in the unit that ``metadata`` names."""
    num_nodes: int
    edge_features: np.ndarray | None = None
    """[E, d_e] float32."""
    node_features: np.ndarray | None = None
    """[N, d_n] float32."""
    labels: np.ndarray | None = None
    """[E] int64."""
    official_split: tuple[int, int] | None = None
    """First validation and first test event; None if no benchmark prescribes them."""
    negatives: np.ndarray | None = None
    """[E - first validation event, M] int64 negatives of a benchmark, padded with -1."""
    num_sources: int | None = None
    """Bipartite streams: sources are 0..num_sources-1 and destinations the rest."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Provenance of the stream: source, time unit, feature names."""
    path: Path | None = None
    """Directory of a stored stream; None for a stream in memory."""
    node_ids: pa.ChunkedArray | None = None
    """[N] the user's own ids, row = node; None if ids were kept as node numbers."""
    recorded: Mapping[str, tuple[np.ndarray, str]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Columns of a stored stream, each with its SHA-256 from meta.json."""

    @property
    def num_events(self) -> int:
        """Number of events."""
        return len(self.src)

    @property
    def edge_dim(self) -> int:
        """Number of features of an event; 0 if it has none."""
        return 0 if self.edge_features is None else int(self.edge_features.shape[1])

    @property
    def node_dim(self) -> int:
        """Number of features of a node; 0 if it has none."""
        return 0 if self.node_features is None else int(self.node_features.shape[1])

    @property
    def bipartite(self) -> bool:
        """True if sources and destinations are disjoint sets."""
        return self.num_sources is not None

    def head(self, num_events: int) -> EventStream:
        """Return views of exactly the first ``num_events`` events; the nodes are unchanged."""
        num_events = arguments.count("num_events", num_events)
        if num_events >= self.num_events:
            return self
        columns: dict[str, Any] = {
            column: values[:num_events]
            for column in ("src", "dst", "t", "edge_features", "labels")
            if (values := getattr(self, column)) is not None
        }
        split, negatives = self.official_split, self.negatives
        if split is not None and num_events <= split[1]:  # no test events are left
            split = negatives = None
        if split is not None and negatives is not None:
            negatives = negatives[: num_events - split[0]]
        return replace(self, **columns, official_split=split, negatives=negatives)

    def chunks(self, size: int = CHUNK_EVENTS) -> Iterator[EventChunk]:
        """Yield the events in order, ``size`` at a time."""
        for start in range(0, self.num_events, size):
            rows = slice(start, start + size)
            yield EventChunk(
                self.src[rows],
                self.dst[rows],
                self.t[rows],
                None if self.edge_features is None else self.edge_features[rows],
                None if self.labels is None else self.labels[rows],
            )

    @classmethod
    @checked_call
    def open(cls, path: str | Path) -> EventStream:
        """Open a stored stream in milliseconds, whatever its size.

        Checks meta.json by its hash, and the other files by names, sizes and headers. Only
        ``verify`` checks their content. Raises ``DataError``.
        """
        return cls._open(stored_at(arguments.path("path", path)))

    @classmethod
    @checked_call
    def verify(cls, path: str | Path) -> EventStream:
        """Open a stored stream and check every byte of it; raise ``DataError`` on damage.

        Reads the whole stream, at about 500 MB/s on one core if it is in the page cache.
        """
        directory = stored_at(arguments.path("path", path))
        stream = cls._open(directory, whole=True)
        stream.check()
        if stream.node_ids is not None:
            stream.raw_ids(np.empty(0, np.int64))  # checks them
        return stream

    @classmethod
    def _open(cls, directory: Path, whole: bool = False) -> EventStream:
        meta = read_meta(directory)
        check_files(directory, meta)
        if whole:
            check_content(directory, meta)
        columns: dict[str, Any] = {
            column: open_array(directory / f"{column}.npy", dtype, shape)
            for column, (dtype, shape) in meta.arrays().items()
        }
        return cls(
            name=meta.name,
            num_nodes=meta.num_nodes,
            num_sources=meta.num_sources,
            official_split=meta.official_split,
            metadata=meta.metadata,
            path=directory,
            node_ids=_open_node_ids(directory, meta.num_nodes) if meta.mapped_ids else None,
            recorded={
                column: (values, meta.files[f"{column}.npy"].sha256)
                for column, values in columns.items()
            },
            **columns,
        )

    @classmethod
    @checked_call
    def from_arrays(
        cls,
        src: object,
        dst: object,
        t: object,
        *,
        name: str = "stream",
        num_nodes: int | None = None,
        edge_features: object = None,
        node_features: object = None,
        labels: object = None,
        num_sources: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> EventStream:
        """Build a stream from arrays; raise ``DataError`` unless they form a valid one."""
        arguments.kind("name", name, str, "a text")
        if metadata is not None:
            arguments.kind("metadata", metadata, Mapping, "a mapping")
            units = (None, "s", "ms", "us", "ns")
            arguments.one_of("metadata['time_unit']", metadata.get("time_unit"), units)
        for count, value in (("num_nodes", num_nodes), ("num_sources", num_sources)):
            if value is not None:
                arguments.count(count, value)
        sources, destinations = as_int64(src, "src"), as_int64(dst, "dst")
        events = len(sources)
        if not events:
            raise DataError("a stream must have at least one event, got 0")
        if num_nodes is None:
            num_nodes = max(int(sources.max()), int(destinations.max(initial=0))) + 1
        stream = cls(
            name=name,
            src=sources,
            dst=destinations,
            t=as_int64(t, "t"),
            num_nodes=num_nodes,
            edge_features=_features(edge_features, "edge_features", events),
            node_features=_features(node_features, "node_features", num_nodes),
            labels=None if labels is None else as_int64(labels, "labels"),
            num_sources=num_sources,
            metadata=dict(metadata or {}),
        )
        stream.check()
        return stream

    def check(self) -> None:
        """Check every event, chunk by chunk; raise ``DataError`` for the first bad one."""
        for column in ("dst", "t", "labels"):
            values = getattr(self, column)
            if values is not None and len(values) != self.num_events:
                raise DataError(f"{column} must have {self.num_events} rows, got {len(values)}")
        if self.node_features is not None:
            check_finite(self.node_features, "node feature", 0, lambda node: f"node {node}")
        if self.official_split is not None:
            first, second = self.official_split
            if not 0 < first <= second < self.num_events:
                raise DataError(
                    f"official_split must be ascending and leave events for training and testing, "
                    f"got {first} and {second} of {self.num_events}"
                )
        if self.negatives is not None and self.negatives.size:
            low, high = int(self.negatives.min()), int(self.negatives.max())
            if not -1 <= low <= high < self.num_nodes:
                raise DataError(
                    f"negatives must be nodes below {self.num_nodes}, or -1 for none, "
                    f"got {low} to {high}"
                )
        first_row, previous = 0, None
        for chunk in self.chunks():
            check_values(chunk, first_row, event_number, "edge feature")
            check_order(chunk.t, previous, first_row, event_number)
            src, dst = chunk.src, chunk.dst
            if (largest := max(int(src.max()), int(dst.max()))) >= self.num_nodes:
                raise DataError(f"node ids must be below num_nodes {self.num_nodes}, got {largest}")
            if self.num_sources is not None and not src.max() < self.num_sources <= dst.min():
                raise DataError(
                    f"in a bipartite stream src must be below num_sources {self.num_sources} and "
                    f"dst not, got src up to {src.max()} and dst from {dst.min()}"
                )
            first_row, previous = first_row + len(chunk), int(chunk.t[-1])
        check_span(int(self.t[0]), int(self.t[-1]))

    @checked_call
    def save(self, path: str | Path, *, force: bool = False) -> EventStream:
        """Store the stream as the directory ``path``, completely or not at all, and open it."""
        from pres_dist.events.writer import StreamWriter  # needed only here

        path, force = arguments.path("path", path), arguments.flag("force", force)

        with StreamWriter(
            path,
            name=self.name,
            edge_dim=self.edge_dim,
            labelled=self.labels is not None,
            num_nodes=self.num_nodes,
            num_sources=self.num_sources,
            metadata=self.metadata,
            force=force,
        ) as writer:
            for chunk in self.chunks():
                writer.append_chunk(chunk)
            if self.node_features is not None:
                writer.set_node_features(self.node_features)
            if self.node_ids is not None:
                writer.set_node_ids(self.checked_node_ids)
            if self.official_split is not None:
                writer.set_official(self.official_split, self.negatives)
        return EventStream.open(path)

    def raw_ids(self, nodes: object) -> list[str] | np.ndarray:
        """Return the user's own ids of ``nodes`` [n]: texts, or [n] int64."""
        wanted = as_int64(nodes, "nodes")
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.num_nodes:
            raise DataError(f"nodes must be in 0..{self.num_nodes - 1}")
        if self.node_ids is None:
            # Kept ids are the node numbers, without the offset of a second id space.
            offset = self.metadata.get("destination_offset", 0)
            return np.where(wanted >= offset, wanted - offset, wanted) if offset else wanted.copy()
        taken = self.checked_node_ids.take(wanted)
        if str(taken.type) == "int64":
            return np.asarray(taken.to_numpy())
        texts: list[str] = taken.to_pylist()
        return texts

    @cached_property
    def identity(self) -> StreamIdentity:
        """Identity of the events by content, independent of the stream's name and place."""
        return identity_of(self)

    @cached_property
    def checked_node_ids(self) -> Any:
        """The user's own ids, fully checked once: Arrow crashes on damaged offsets."""
        import pyarrow as pa

        assert self.node_ids is not None
        try:
            self.node_ids.validate(full=True)
        except pa.ArrowException as error:
            raise DataError(f"{self.path}/{NODE_IDS_FILE}: damaged: {error}") from None
        return self.node_ids


def _features(values: object, what: str, num_rows: int) -> np.ndarray | None:
    return None if values is None else as_float32(values, what, num_rows)


def _open_node_ids(directory: Path, num_nodes: int) -> pa.ChunkedArray:
    """Memory-map the column of the user's own ids."""
    import pyarrow as pa

    file = directory / NODE_IDS_FILE
    try:
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: damaged: {error}") from None
    if table.column_names != ["raw_id"] or table.num_rows != num_nodes:
        raise DataError(f"{file}: must hold one column raw_id of {num_nodes} rows")
    if str(table.schema.field(0).type) not in ("int64", "large_string"):
        raise DataError(f"{file}: raw_id must be int64 or text")
    return table.column(0)
