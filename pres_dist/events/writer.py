"""Writing of a stream in chunks: each is checked; the stream is stored completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.chunk import (
    MAX_ID,
    EventChunk,
    Locate,
    as_float32,
    as_int64,
    check_finite,
    check_order,
    check_span,
    check_values,
    event_number,
)
from pres_dist.events.columns import ColumnFile, ColumnReader, sort_by_time, write_column
from pres_dist.events.storage import (
    FLOAT,
    INT,
    META_FILE,
    NODE_IDS_FILE,
    PartialDirectory,
    StoredFile,
    StreamMeta,
    meta_json,
)
from pres_dist.files import sha256, user_path
from pres_dist.staging import sync

if TYPE_CHECKING:
    import pyarrow as pa

OFFSET_EVENTS = 1 << 22
_MOST_ROWS_AN_EVENT = 10
"""Nodes per event end above which most nodes cannot have an event."""


class StreamWriter:
    """Context manager that stores a stream as the directory ``path``.

    All files are written to a hidden directory next to it, which is renamed if the
    ``with`` block succeeds and removed if it fails. ``separate_ids`` means that src and
    dst are numbered independently; destinations are then renumbered after the sources.
    ``sort`` sorts by time (stable) in bounded memory. ``locate`` converts a row (from 0)
    to the place that an error shows. Raises ``DataError``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        edge_dim: int = 0,
        labelled: bool = False,
        num_nodes: int | None = None,
        num_sources: int | None = None,
        separate_ids: bool = False,
        detect_bipartite: bool = False,
        sort: bool = False,
        metadata: Mapping[str, Any] | None = None,
        locate: Locate = event_number,
        force: bool = False,
    ) -> None:
        self.path = Path(os.path.abspath(user_path(path)))
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._name = name or self.path.name
        self._edge_dim, self._labelled = edge_dim, labelled
        self._num_nodes, self._num_sources = num_nodes, num_sources
        self._separate_ids, self._detect_bipartite = separate_ids, detect_bipartite
        self._sort, self._locate = sort, locate
        self._node_features: np.ndarray | None = None
        self._node_ids: pa.ChunkedArray | None = None
        self._official_split: tuple[int, int] | None = None
        self._negatives: np.ndarray | None = None
        self._num_events, self._in_order = 0, True
        self._last_t: int | None = None
        self._min_t, self._max_t = 2**63 - 1, -(2**63)
        self._max_src, self._max_dst, self._min_dst = -1, -1, MAX_ID + 1
        self._columns: dict[str, ColumnFile] = {}
        self._directory = PartialDirectory(self.path, force)

    @property
    def num_events(self) -> int:
        """Number of events written so far."""
        return self._num_events

    def __enter__(self) -> StreamWriter:
        self._directory.create()
        layout = dict.fromkeys(("src", "dst", "t"), (INT, 0))
        if self._edge_dim:
            layout["edge_features"] = (FLOAT, self._edge_dim)
        if self._labelled:
            layout["labels"] = (INT, 0)
        for column, (dtype, width) in layout.items():
            self._columns[column] = ColumnFile(self._directory.path / f"{column}.npy", dtype, width)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._publish()
        except OSError as failure:
            raise self._cannot_write(failure) from failure
        finally:
            for column in self._columns.values():
                with suppress(OSError):  # the disk may be full
                    column.close()
            self._directory.remove()

    def append(
        self,
        src: object,
        dst: object,
        t: object,
        edge_features: object = None,
        labels: object = None,
    ) -> None:
        """Write the next [n] events; raise ``DataError`` for the first invalid one."""
        chunk = EventChunk(as_int64(src, "src"), as_int64(dst, "dst"), as_int64(t, "t"))
        if edge_features is not None:
            rows = as_float32(edge_features, "edge_features", len(chunk))
            chunk = replace(chunk, edge_features=rows)
        if labels is not None:
            chunk = replace(chunk, labels=as_int64(labels, "labels"))
        self.append_chunk(chunk)

    def append_chunk(self, chunk: EventChunk) -> None:
        """Write the next events; raise ``DataError`` for the first invalid one."""
        if not len(chunk):
            return
        width = 0 if chunk.edge_features is None else chunk.edge_features.shape[1]
        if width != self._edge_dim:
            raise DataError(f"events must have {self._edge_dim} edge features, got {width}")
        if (chunk.labels is not None) != self._labelled:
            raise DataError("either every event has a label or none has")
        for column in self._columns:
            if (rows := len(getattr(chunk, column))) != len(chunk):
                raise DataError(f"{column} must have {len(chunk)} rows, got {rows}")
        check_values(chunk, self._num_events, self._locate, "feature")
        if not self._sort:
            check_order(chunk.t, self._last_t, self._num_events, self._locate)
        elif self._in_order:
            previous = chunk.t[0] if self._last_t is None else self._last_t
            self._in_order = bool(chunk.t[0] >= previous and (chunk.t[1:] >= chunk.t[:-1]).all())
        try:
            for column, file in self._columns.items():
                file.append(getattr(chunk, column))
        except OSError as error:
            raise self._cannot_write(error) from error
        self._num_events += len(chunk)
        self._last_t = int(chunk.t[-1])
        self._min_t = min(self._min_t, int(chunk.t.min()))
        self._max_t = max(self._max_t, int(chunk.t.max()))
        self._max_src = max(self._max_src, int(chunk.src.max()))
        self._max_dst = max(self._max_dst, int(chunk.dst.max()))
        self._min_dst = min(self._min_dst, int(chunk.dst.min()))

    @property
    def num_nodes(self) -> int:
        """Number of nodes that the ids of the events so far require."""
        if self._separate_ids:
            return self._max_src + 1 + self._max_dst + 1
        return max(self._max_src, self._max_dst) + 1

    def count_used_nodes(self) -> int:
        """Return the number of nodes with an event; an upper bound if `num_nodes` is very large."""
        # A few huge ids would otherwise allocate an array that fills the memory.
        most = 2 * self._num_events
        if self.num_nodes > _MOST_ROWS_AN_EVENT * most:
            return most
        used = {column: np.zeros(self.num_nodes, bool) for column in ("src", "dst")}
        if not self._separate_ids:
            used["dst"] = used["src"]
        for column, used_N in used.items():
            self._columns[column].flush()
            rows = ColumnReader(self._directory.path / f"{column}.npy")
            for start in range(0, self._num_events, OFFSET_EVENTS):
                used_N[rows.read(slice(start, min(start + OFFSET_EVENTS, self._num_events)))] = True
        counted = used.values() if self._separate_ids else [used["src"]]
        return sum(int(np.count_nonzero(used_N)) for used_N in counted)

    def set_node_features(self, features: object) -> None:
        """Set the [N, d_n] node features, row = node."""
        self._node_features = np.asarray(features)

    def set_node_ids(self, raw_ids: pa.ChunkedArray) -> None:
        """Set the user's own ids [N], int64 or text, row = node."""
        self._node_ids = raw_ids

    def set_official(self, split: tuple[int, int], negatives: np.ndarray | None = None) -> None:
        """Set the split and negatives that a benchmark prescribes.

        Args:
            split: first validation and first test event.
            negatives: [E - split[0], M] int64 for the events after training, padded with -1.
        """
        self._official_split, self._negatives = split, negatives

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be written: {error.strerror or error}")

    def _publish(self) -> None:
        if not self._num_events:
            raise DataError("there must be at least one event, got none")
        check_span(self._min_t, self._max_t)
        for column in self._columns.values():
            column.flush()
        if not self._in_order:
            sort_by_time(self._directory.path, list(self._columns))
        self._number_nodes()
        self._write_node_files()
        self._write_meta()
        self._directory.publish()

    def _number_nodes(self) -> None:
        """Set the number of nodes, and of sources if the stream is bipartite."""
        if self._separate_ids:
            self._num_sources = offset = self._max_src + 1
            if offset + self._max_dst > MAX_ID:
                raise DataError(
                    f"sources and destinations together must be at most {MAX_ID + 1}, "
                    f"got {offset + self._max_dst + 1}"
                )
            # The number of sources is known only now, so destinations are shifted in their file.
            destinations = np.load(self._directory.path / "dst.npy", mmap_mode="r+")
            for start in range(0, self._num_events, OFFSET_EVENTS):
                destinations[start : start + OFFSET_EVENTS] += offset
            destinations.flush()
            self._max_dst += offset
            if self._node_ids is None:
                self.metadata["destination_offset"] = offset
        elif self._detect_bipartite and self._node_ids is None and self._max_src < self._min_dst:
            # Mapped ids number destinations among the sources, and tell nothing about sides.
            self._num_sources = self._min_dst
        largest = max(self._max_src, self._max_dst)
        self._num_nodes = largest + 1 if self._num_nodes is None else self._num_nodes
        if largest >= self._num_nodes:
            raise DataError(f"node ids must be below {self._num_nodes}, got {largest}")

    def _write_node_files(self) -> None:
        assert self._num_nodes is not None
        if self._node_features is not None:
            features = as_float32(self._node_features, "node features", self._num_nodes)
            check_finite(features, "node feature", 0, lambda node: f"node {node}")
            write_column(self._directory.path / "node_features.npy", features, FLOAT)
        if self._negatives is not None:
            write_column(self._directory.path / "negatives.npy", self._negatives, INT)
        if self._node_ids is not None:
            import pyarrow as pa

            numbers = pa.types.is_integer(self._node_ids.type)
            column = self._node_ids.cast(pa.int64() if numbers else pa.large_string())
            table = pa.table({"raw_id": column})
            file = str(self._directory.path / NODE_IDS_FILE)
            with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)

    def _write_meta(self) -> None:
        node_dim = 0 if self._node_features is None else self._node_features.shape[1]
        meta = StreamMeta(
            name=self._name,
            num_events=self._num_events,
            num_nodes=self._num_nodes or 0,
            edge_dim=self._edge_dim,
            node_dim=node_dim,
            num_sources=self._num_sources,
            official_split=self._official_split,
            num_negatives=0 if self._negatives is None else self._negatives.shape[1],
            labelled=self._labelled,
            mapped_ids=self._node_ids is not None,
            metadata=self.metadata,
        )
        stored = {}
        for name in meta.file_names():
            file = self._directory.path / name
            sync(file)
            stored[name] = StoredFile(bytes=file.stat().st_size, sha256=sha256(file))
        complete = meta.model_copy(update={"files": stored})
        file = self._directory.path / META_FILE
        file.write_text(meta_json(complete), encoding="utf-8")
        sync(file)
