"""Import of events: reads a source in batches, converts values exactly, writes a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pres_dist.errors import DataError
from pres_dist.events.capacity import check_capacity, is_sparse
from pres_dist.events.chunk import EventChunk, Locate
from pres_dist.events.convert import booleans_as_numbers, plain, to_integers, to_vectors
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.node_columns import IdRules, NodeColumns, OtherIdsError
from pres_dist.events.readers.source import Source, open_source
from pres_dist.events.readers.table import Table
from pres_dist.events.stream import EventStream
from pres_dist.events.tgb import import_tgb
from pres_dist.events.times import TimeRules, is_date, read_times
from pres_dist.events.writer import StreamWriter
from pres_dist.wording import option_name, setting

# Ranges of times since 1970 for the years 1973 to 2286, by unit.
_SINCE_1970 = {
    "seconds": (10**8, 10**10),
    "milliseconds": (10**11, 10**13),
    "microseconds": (10**14, 10**16),
    "nanoseconds": (10**17, 10**19),
}
_MISSING = ("NULL", "null", "NaN", "nan", "NA", "N/A", "<NA>", "None", "none", "\\N", "undefined")
"""Texts that programs write in place of a missing id."""
_PER_YEAR = {"s": 31_556_952, "ms": 31_556_952 * 10**3, "us": 31_556_952 * 10**6}

Progress = Callable[[int, int, int], None]
"""Callback with the events so far, the bytes read so far and the size of the file in bytes."""


@dataclass(frozen=True)
class ImportResult:
    """Stored stream, with notes for the user on its import."""

    stream: EventStream
    notes: list[str]


def import_stream(
    config: ImportConfig, progress: Progress | None = None, table: Table | None = None
) -> ImportResult:
    """Import ``config.source`` as the directory ``config.out``, in bounded memory.

    ``table``, if given, is read instead of ``config.source``.

    Only the distinct ids (if ids are mapped) and arrays of node features take memory
    that grows with the data. Raises ``DataError``, and then leaves no files behind.
    """
    if config.format == "tgb":
        return ImportResult(*import_tgb(config, progress))
    if config.root is not None:
        raise DataError(f"{option_name('root')} is for the format tgb, not for {config.format}")
    source = open_source(config, table)
    # Ids may turn out to need a map as late as in the last event. Then the source is read again,
    # because holding all of it would take too much memory.
    rules, reason = IdRules(config.ids), ""
    while True:
        try:
            notes = _write(source, config, rules, progress)
            break
        except OtherIdsError as found:
            rules, reason = replace(rules, kind=found.kind), reason or found.reason
    stream = EventStream.open(config.out)
    if stream.node_ids is not None:
        note = "ids mapped to 0, 1, ... in the order of their first appearance"
        notes.insert(0, f"{note} ({reason})" if reason else note)
    return ImportResult(stream, [*source.notes, *notes, *_remarks(stream, source)])


def _write(
    source: Source, config: ImportConfig, rules: IdRules, progress: Progress | None
) -> list[str]:
    """Store the events of a source, and return notes for the user."""
    with StreamWriter(
        config.out,
        name=config.name,
        edge_dim=source.edge_dim,
        labelled=source.label is not None,
        separate_ids=source.separate_ids,
        detect_bipartite=not source.separate_ids,
        sort=config.sort,
        metadata={"source": config.source.name, "format": source.format},
        locate=source.table.locate,
        force=config.force,
    ) as writer:
        converter = Converter(source, config, rules)
        for batch in source.table.batches(source.columns):
            if batch.num_rows:
                writer.append_chunk(converter.convert(batch))
            if progress is not None:
                progress(writer.num_events, source.table.position, source.table.size)
        if not writer.num_events:
            raise DataError(f"{source.table.path}: there must be at least one event, got none")
        return [*converter.finish(writer), *_check_numbers(writer, source, converter.nodes)]


class Converter:
    """Converter from batches of a table to events; keeps its state across batches.

    Args:
        times: time rules of the stream that the events extend; from `config` when None.
    """

    def __init__(
        self,
        source: Source,
        config: ImportConfig,
        rules: IdRules,
        times: TimeRules | None = None,
    ) -> None:
        self._source, self._config = source, config
        self._num_events = 0
        self.nodes = NodeColumns(source, rules)
        self._rules = times or TimeRules(None, config.time_unit or "ms", config.time_factor)
        unasked = config.label is None and rules.stream is None
        self._label_is_found = unasked and source.format in ("csv", "parquet")

    def convert(self, batch: pa.RecordBatch) -> EventChunk:
        """Return the events of the next batch; raise ``DataError`` for the first bad value."""
        first, source = self._num_events, self._source
        scaled = self._rules.stream is None and self._config.time_factor is not None
        if not first and scaled and is_date(batch.column(source.time)):
            raise DataError(
                f"{source.table.path}: {option_name('time_scale')} is for plain numbers, but "
                f"column {source.time!r} holds dates, whose unit is that of "
                f"{option_name('time_unit')}"
            )

        def locate(row: int) -> str:
            return source.table.locate(first + row)

        src, dst = self.nodes.nodes(batch, locate)
        times = read_times(batch.column(source.time), "time", locate, self._rules)
        # Later batches must have a time zone if this one has, and none otherwise.
        if times.dated:
            self._rules = replace(self._rules, zoned=times.zoned)
        features, labels = self._features(batch, locate), self._labels(batch, locate)
        chunk = EventChunk(src, dst, times.t, features, labels)
        self._num_events += batch.num_rows
        return chunk

    def finish(self, writer: StreamWriter) -> list[str]:
        """Check the feature count, pass node ids and features to the writer, and return notes."""
        source = self._source
        array = source.feature_array
        if array is not None and source.feature_row is None and len(array) != self._num_events:
            raise DataError(
                f"{source.table.path}: edge features must have one row for each of the "
                f"{self._num_events} events, got {len(array)} rows"
            )
        if self.nodes.map is not None:
            writer.set_node_ids(self.nodes.map.raw_ids())
        if source.node_features is not None:
            writer.set_node_features(source.node_features)
        known = writer.metadata
        known["feature_names"] = source.features
        if self._rules.zoned is not None:
            known.update(time_unit=self._rules.unit, times_have_zone=self._rules.zoned)
        elif self._config.time_unit is not None:
            known["time_unit"] = self._config.time_unit
        if self._config.time_factor is not None:
            known["time_scale"] = self._config.time_scale
        trimmed = self.nodes.trimmed
        if not trimmed.num_ids:
            return []
        return [f"white space around {trimmed.num_ids:,} ids removed, first at {trimmed.first}"]

    def _labels(self, batch: pa.RecordBatch, locate: Locate) -> np.ndarray | None:
        label = self._source.label
        if label is None:
            return None
        values = booleans_as_numbers(plain(batch.column(label)))
        try:
            return to_integers(values, label, locate)
        except DataError as error:
            if not self._label_is_found:
                raise
            hint = f"{setting('label', '')} leaves it out"
            raise DataError(f"{error} (a column of this name is read as labels; {hint})") from None

    def _features(self, batch: pa.RecordBatch, locate: Locate) -> np.ndarray | None:
        source, array = self._source, self._source.feature_array
        if array is None:
            if not source.features:
                return None
            parts = [
                to_vectors(batch.column(name), width, name, locate)
                for name, width in zip(source.features, source.widths, strict=True)
            ]
            return np.concatenate(parts, axis=1)
        if source.feature_row is None:
            rows = np.arange(self._num_events, self._num_events + batch.num_rows)
        else:
            rows = to_integers(batch.column(source.feature_row), source.feature_row, locate)
        outside = (rows < 0) | (rows >= len(array))
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(
                f"{locate(row)}: edge features have rows 0..{len(array) - 1}, "
                f"but the event needs row {rows[row]}"
            )
        with np.errstate(over="ignore"):  # infinite values are refused by the writer
            return array[rows].astype(np.float32)


def _remarks(stream: EventStream, source: Source) -> list[str]:
    """Return notes on the sides and times of the events."""
    remarks = []
    if stream.node_ids is not None and not pa.types.is_integer(stream.node_ids.type):
        missing = pa.array(_MISSING, stream.node_ids.type)
        found = stream.node_ids.filter(pc.is_in(stream.node_ids, value_set=missing))
        if len(found):
            shown = ", ".join(map(repr, dict.fromkeys(found.to_pylist())))
            remarks.append(f"ids {shown} look like missing values, and each is one node")
    if stream.bipartite and not source.separate_ids:
        remarks.append(
            f"every src is below every dst: bipartite, {stream.num_sources} sources "
            f"and {stream.num_nodes - (stream.num_sources or 0)} destinations"
        )
    if stream.node_ids is not None and not stream.bipartite:
        is_source, is_destination = np.zeros((2, stream.num_nodes), dtype=bool)
        for chunk in stream.chunks():
            is_source[chunk.src] = True
            is_destination[chunk.dst] = True
        if not (is_source & is_destination).any():
            remarks.append(
                f"no id is both a source and a destination; is the stream {setting('bipartite')}?"
            )
    return [*remarks, *_time_remarks(stream)]


def _time_remarks(stream: EventStream) -> list[str]:
    """Return notes on times that look like dates, mixed units or another unit; often none."""
    known, first, last = stream.metadata, int(stream.t[0]), int(stream.t[-1])
    notes = []
    if not {"times_have_zone", "time_scale"} & known.keys() and _are_dates(stream, first):
        notes.append(
            f"times look like dates and are read as plain numbers ({first:,}): a date is written "
            "2024-01-31 or 2024-01-31T10:00:00Z"
        )
    units = [
        name
        for time in (first, last)
        for name, (low, high) in _SINCE_1970.items()
        if low <= time < high
    ]
    if len(units) == 2 and units[0] != units[1]:
        middle = int(np.searchsorted(stream.t, first * 50))
        # Times of two units form two groups that are far apart.
        if middle < stream.num_events and stream.t[middle] // stream.t[middle - 1] >= 100:
            notes.append(
                f"times from {first:,} to {last:,} look like {units[0]} and {units[1]} since 1970 "
                "in one column"
            )
    unit = known.get("time_unit")
    if unit in _PER_YEAR and "first_event" not in known:
        year = 1970 + last // _PER_YEAR[unit]
        if year > 9999:
            notes.append(
                f"the last time, {last:,}, is in the year {year:,} as {unit}: is it of another "
                "unit?"
            )
    return notes


def _are_dates(stream: EventStream, first: int) -> bool:
    """Return True if all times look like dates written as 20240131 or 20240131100000."""
    day = 10**6 if first >= 10**13 else 1
    for chunk in stream.chunks():
        days, clock = np.divmod(chunk.t, day)
        months = days // 100 % 100
        dates = (days >= 1900_01_01) & (days <= 2100_12_31) & (months >= 1) & (months <= 12)
        dates &= (days % 100 >= 1) & (days % 100 <= 31)
        times_of_day = (clock // 10_000 < 24) & (clock // 100 % 100 < 60) & (clock % 100 < 60)
        if not (dates & times_of_day).all():
            return False
    return True


def _check_numbers(writer: StreamWriter, source: Source, nodes: NodeColumns) -> list[str]:
    """Check that kept ids are dense and their nodes fit into memory; return notes.

    Raises OtherIdsError if ids are sparse and may be mapped, since the user left the choice.
    """
    if nodes.map is not None:
        return []
    num_nodes, used = writer.num_nodes, writer.count_used_nodes()
    # Node features are indexed by node number: mapping would assign them to other nodes.
    may_map = nodes.maps_when_needed and source.node_features is None
    if may_map and is_sparse(num_nodes, used):
        raise OtherIdsError(
            nodes.mapped_kind,
            f"they go up to {num_nodes - 1:,}, but at most {used:,} are used",
        )
    check_capacity(num_nodes, str(source.table.path))
    if num_nodes <= 2 * used:
        return []
    return [
        f"most of the {num_nodes:,} node ids are unused and take memory in training; "
        f"{setting('ids', 'map')} numbers them without gaps"
    ]
