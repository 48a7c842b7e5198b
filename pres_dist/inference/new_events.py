"""Read events to append to a stream by the stream's own conventions, and check them against it.

Shapes: n new events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist import arguments
from pres_dist.errors import DataError
from pres_dist.events.capacity import FEW_NODES, SPARSE, check_capacity, is_sparse
from pres_dist.events.chunk import EventChunk, Locate, check_ids
from pres_dist.events.frames import FRAME, frame_table
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import Converter
from pres_dist.events.node_columns import IdRules
from pres_dist.events.raw_ids import PairMap
from pres_dist.events.readers.source import joined_names, open_source
from pres_dist.events.readers.table import Table
from pres_dist.events.stream import EventStream
from pres_dist.events.times import TimeRules
from pres_dist.events.writer import StreamWriter
from pres_dist.inference.times import MaxAhead, check_ahead, shown
from pres_dist.wording import setting


@arguments.checked_init
@dataclass(frozen=True)
class EventColumns:
    """Names of the columns of new events.

    Attributes:
        features: feature columns; those that the stream was imported with when None.
        label: label column; when None, `label` if the stream has labels.
        sort: sort events stably by time; otherwise events out of order are an error.
        delimiter: delimiter of a CSV file; a comma or a tab when None.
    """

    src: str = "src"
    dst: str = "dst"
    time: str = "t"
    label: str | None = None
    features: Sequence[str] | None = None
    sort: bool = False
    delimiter: str | None = None

    def __post_init__(self) -> None:
        """Raise ArgumentError for a value that is not a column name."""
        for name in ("src", "dst", "time"):
            object.__setattr__(self, name, arguments.column(name, getattr(self, name)))
        if self.label is not None:
            object.__setattr__(self, "label", arguments.column("label", self.label))
        if self.features is not None:
            names = arguments.items("features", self.features, "names of columns")
            columns = [arguments.column(f"features[{i}]", one) for i, one in enumerate(names)]
            object.__setattr__(self, "features", columns)
        arguments.flag("sort", self.sort)


@dataclass(frozen=True)
class NewEvents:
    """Events that may be appended.

    Attributes:
        chunk: the events. Nodes are numbered as in the extended stream, but destinations are
            not yet shifted to make room for new sources.
        ids: the user's ids including those of new nodes, if ids are mapped.
    """

    chunk: EventChunk
    ids: PairMap | None

    def __len__(self) -> int:
        return len(self.chunk)


def read_new_events(
    stream: EventStream, source: Any, columns: EventColumns, max_ahead: MaxAhead = "auto"
) -> NewEvents:
    """Read the events that follow a stream, all into memory.

    Args:
        stream: the stream, which defines ids, times, features and labels.
        source: path of a file, or a DataFrame.
        columns: names of the columns of `source`.
        max_ahead: how far after the stream's last event they may be; see `latest_allowed`.

    Raises:
        DataError: a column is missing, a value is not valid, or an event is not later than the
            stream's last one or too far ahead of it. The message has the location.
    """
    config = _import_config(stream, source, columns)
    table: Table | None = None if isinstance(source, Path) else frame_table(source)
    opened = open_source(config, table)
    if opened.edge_dim != stream.edge_dim:
        names = stream.metadata.get("feature_names") or []
        raise DataError(
            f"{opened.table.path}: events must have the {stream.edge_dim} features of "
            f"{stream.name}{': ' + ', '.join(names) if names else ''}; got {opened.edge_dim}"
        )
    known = None
    if stream.node_ids is not None:
        known = PairMap.known(stream.checked_node_ids, stream.num_sources)
    rules = IdRules(config.ids, known=known, stream=stream.name)
    converter = Converter(opened, config, rules, TimeRules.of(stream))
    chunks = [
        converter.convert(batch) for batch in opened.table.batches(opened.columns) if batch.num_rows
    ]
    if not chunks:
        raise DataError(f"{opened.table.path}: must hold at least one event, got none")
    chunk = _by_columns(np.concatenate, *chunks)
    for name in ("src", "dst"):
        check_ids(getattr(chunk, name), name, 0, opened.table.locate)
    if known is None:
        _check_numbers(stream, chunk, opened.table.locate)
    last = int(stream.t[-1])
    check_ahead(stream, chunk.t, last, columns.time, opened.table.locate, max_ahead)
    falls = np.flatnonzero(chunk.t[1:] < chunk.t[:-1])
    if falls.size and not columns.sort:
        row = int(falls[0]) + 1
        raise DataError(
            f"{opened.table.locate(row)}: time must not decrease ({setting('sort')} sorts the "
            f"events), got {chunk.t[row]} after {chunk.t[row - 1]}"
        )
    if falls.size:
        order = np.argsort(chunk.t, kind="stable")
        chunk = _by_columns(lambda parts: parts[0][order], chunk)
    if chunk.t[0] <= last:
        where = "the new events" if columns.sort else opened.table.locate(0)
        raise DataError(
            f"{where}: time must be later than the last event that the run knows, at "
            f"{shown(stream, last)}, got {shown(stream, int(chunk.t[0]))} (memory has seen all "
            "events of that time already)"
        )
    return NewEvents(chunk, known)


def write_longer(stream: EventStream, new: NewEvents, path: Path) -> EventStream:
    """Store a stream followed by new events; its columns are copied, not imported again.

    The result equals an import of all events together.

    Raises:
        DataError: there are new nodes and nodes have features, or `path` cannot be written.
    """
    mapped, offset = new.ids is not None, int(stream.metadata.get("destination_offset", 0))
    num_sources = stream.num_sources
    if num_sources is not None and new.ids is not None:
        num_sources = new.ids.num_sources
    elif offset:
        num_sources = max(offset, int(new.chunk.src.max()) + 1)
    shift = num_sources - stream.num_sources if num_sources and stream.num_sources else 0
    moved = num_sources if mapped or offset else 0
    chunk = _moved(new.chunk, moved or 0)
    ids = new.ids.raw_ids() if new.ids is not None else None
    largest = int(max(chunk.src.max(), chunk.dst.max()))
    num_nodes = len(ids) if ids is not None else max(stream.num_nodes + shift, largest + 1)
    if stream.node_features is not None and num_nodes > stream.num_nodes:
        raise DataError(
            f"{stream.name}: its nodes have features, and the new events bring "
            f"{num_nodes - stream.num_nodes:,} nodes without: import the stream anew with all"
        )
    kept_apart = bool(mapped or offset)
    with StreamWriter(
        path,
        name=stream.name,
        edge_dim=stream.edge_dim,
        labelled=stream.labels is not None,
        num_nodes=num_nodes,
        num_sources=num_sources if kept_apart else None,
        detect_bipartite=stream.bipartite and not kept_apart,
        metadata={**stream.metadata, **({"destination_offset": num_sources} if offset else {})},
    ) as writer:
        for old in stream.chunks():
            writer.append_chunk(_moved(old, shift))
        writer.append_chunk(chunk)
        if stream.node_features is not None:
            writer.set_node_features(stream.node_features)
        if ids is not None:
            writer.set_node_ids(ids)
        if stream.official_split is not None:
            writer.set_official(stream.official_split)
    return EventStream.open(path)


def _import_config(stream: EventStream, source: Any, columns: EventColumns) -> ImportConfig:
    """Return the configuration to read new events with, as the stream's own events were read."""
    names: dict[str, Any] = {"src": columns.src, "dst": columns.dst, "time": columns.time}
    if isinstance(source, Path):
        names |= {"source": source, "delimiter": columns.delimiter}
    else:
        names |= {"source": FRAME, "format": "parquet"}
    if stream.labels is None:
        names["label"] = ""
    elif columns.label is not None:
        names["label"] = columns.label
    features = columns.features
    if features is None:
        features = stream.metadata.get("feature_names") or None
    if not stream.edge_dim:
        features = []
    if features is not None:
        names["features"] = joined_names(features)
    ids = "keep" if stream.node_ids is None else "map"
    return ImportConfig(out=Path("unused"), ids=ids, **names)


def _by_columns(
    function: Callable[[Sequence[np.ndarray]], np.ndarray], *chunks: EventChunk
) -> EventChunk:
    """Return the chunk whose columns are the function of the columns of chunks."""
    columns: dict[str, Any] = {
        name: None if values is None else function([getattr(one, name) for one in chunks])
        for name, values in vars(chunks[0]).items()
    }
    return EventChunk(**columns)


def _moved(chunk: EventChunk, by: int) -> EventChunk:
    """Return the events with destination numbers increased by `by`."""
    return chunk if not by else EventChunk(**{**vars(chunk), "dst": chunk.dst + by})


def _check_numbers(stream: EventStream, chunk: EventChunk, locate: Locate) -> None:
    """Raise DataError for an id, here a node number, that would leave most numbers unused."""
    ends = {"src": chunk.src, "dst": chunk.dst}
    what = max(ends, key=lambda name: int(ends[name].max()))
    row = int(ends[what].argmax())
    largest, num_events = int(ends[what][row]), stream.num_events + len(chunk)
    if largest < stream.num_nodes or is_sparse(stream.num_nodes, 2 * stream.num_events):
        return check_capacity(largest + 1, locate(row))
    if is_sparse(largest + 1, 2 * num_events):
        raise DataError(
            f"{locate(row)}: {what} must be at most {max(FEW_NODES, 2 * SPARSE * num_events)}, "
            f"because ids of {stream.name} are node numbers (an import of all events with "
            f"{setting('ids', 'map')} takes any), got {largest}"
        )
