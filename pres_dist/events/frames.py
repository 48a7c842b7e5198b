"""Streams from tables in memory and Parquet files, with the checks of an import."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from pydantic import ValidationError

from pres_dist import arguments
from pres_dist.config.suggest import suggest
from pres_dist.errors import ArgumentError, DataError, PresDistWarning, first_line
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.readers.source import joined_names
from pres_dist.events.readers.table import Table, list_width
from pres_dist.events.stream import EventStream
from pres_dist.events.times import column_of

FRAME = Path("DataFrame")
"""Path shown for a table without a file."""
ROWS = 1 << 20
_SURROGATES = re.compile("[\ud800-\udfff]")
OPTIONS = ("name", "ids", "sort", "time_scale", "time_unit", "force", "feature_file")
"""Fields of `ImportConfig` that are accepted as options, in addition to `node_features`."""


class ArrowTable:
    """Arrow table in memory as a source of events."""

    def __init__(self, table: pa.Table) -> None:
        self.path = FRAME
        self.columns = [str(name) for name in table.column_names]
        self.size = max(table.num_rows, 1)
        self._table = table
        self._rows_read = 0

    @property
    def position(self) -> int:
        """Number of rows read so far; `size` counts rows too."""
        return self._rows_read

    def width(self, column: str) -> int:
        """Return the numbers per row of a column: 1, or the length of its first list."""
        values = self._column(self.columns.index(column))
        return list_width(pa.chunked_array(values).combine_chunks())

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, with only `columns`."""
        self._rows_read = 0
        # By place, because the names of a DataFrame need not be texts.
        named = {name: self._column(self.columns.index(name)) for name in columns}
        for batch in pa.table(named).combine_chunks().to_batches(ROWS):
            self._rows_read += batch.num_rows
            yield batch

    def locate(self, row: int) -> str:
        """Return the place of a row, such as `DataFrame: row 812`, counted from 0."""
        return f"{FRAME}: row {row}"

    def _column(self, place: int) -> Any:
        return self._table.column(place)


class FrameTable(ArrowTable):
    """DataFrame as a source of events; only the columns that are read are converted."""

    def __init__(self, frame: Any) -> None:
        self.path = FRAME
        self.columns = [str(name) for name in frame.columns]
        self.size = max(len(frame), 1)
        self._frame = frame
        self._rows_read = 0

    def _column(self, place: int) -> Any:
        series = self._frame.iloc[:, place]
        name, kind = self.columns[place], series.dtype
        values = np.asarray(series) if type(kind).__name__ == "SparseDtype" else series
        if isinstance(kind, np.dtype) and kind.kind == "c":
            raise DataError(f"{FRAME}: column {name!r} must be numbers or texts, got {kind}")
        if isinstance(kind, np.dtype) and not kind.isnative:
            values = np.asarray(series).astype(kind.newbyteorder("="))
        try:
            column = pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            return self._mixed(series, name, error)
        # In a mixed column Arrow would read dates without a zone as UTC; it drops nanoseconds.
        untyped = isinstance(kind, np.dtype) and kind.kind == "O"
        if untyped and (pt.is_timestamp(column.type) or pt.is_date(column.type)):
            return self._dates(series, name)
        return column

    def _dates(self, series: Any, name: str) -> pa.Array:
        return column_of(series.tolist(), name, self.locate, "a whole number or a date")

    def _mixed(self, series: Any, name: str, error: Exception) -> pa.Array:
        """Return a column of dates that Arrow cannot convert; raise DataError for others."""
        values = series.tolist()
        if any(hasattr(value, "isoformat") or isinstance(value, np.datetime64) for value in values):
            return self._dates(series, name)
        for row, value in enumerate(values):
            if isinstance(value, str) and _SURROGATES.search(value):  # has no UTF-8 form
                raise DataError(f"{self.locate(row)}: {name} must be Unicode text, got {value!r}")
        kinds = [type(value).__name__ for value in values]
        given = [row for row, value in enumerate(values) if value is not None and value == value]
        for row in given:
            if kinds[row] != kinds[given[0]]:
                raise DataError(
                    f"{self.locate(row)}: a column has values of several types: {name} must be "
                    f"{kinds[given[0]]} as before, got {kinds[row]}"
                )
        raise DataError(f"{FRAME}: column {name!r} cannot be read: {first_line(error)}") from None


def _is_frame(value: object) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "columns")


def is_table(value: object) -> bool:
    """Return True if `frame_table` accepts the value."""
    return _is_frame(value) or hasattr(value, "__arrow_c_stream__")


def frame_table(frame: object, what: str = "events") -> ArrowTable:
    """Return a table in memory as a source of events.

    Args:
        frame: a pandas DataFrame, an Arrow table, or an object that exports one (polars, duckdb).
        what: name of the argument, for errors.

    Raises:
        ArgumentError: `frame` is none of these.
    """
    if _is_frame(frame):
        return FrameTable(frame)
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    elif hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, pa.Table):
        try:
            frame = pa.table(frame)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ArgumentError(f"{what} cannot be read as a table: {error}") from None
    if not isinstance(frame, pa.Table):
        raise ArgumentError(
            f"{what} must be a pandas DataFrame or an Arrow table, got {type(frame).__name__}"
        )
    return ArrowTable(frame)


def stream_of(
    source: Path | object,
    *,
    columns: dict[str, object],
    features: Sequence[object] | None,
    bipartite: bool,
    out: str | Path | None,
    options: dict[str, Any],
) -> EventStream:
    """Import a Parquet file or a table in memory; see `EventStream.from_pandas`.

    Args:
        source: path of a Parquet file, or a table in memory.
        columns: names of the columns src, dst, t and label; label may be None.
        options: other fields of `ImportConfig`.
    """
    _check_options(options)
    named = {
        "time" if name == "t" else name: arguments.column(name, value)
        for name, value in columns.items()
        if not (name == "label" and value is None)
    }
    if features is not None:
        names = arguments.items("features", features, "names of columns")
        named["features"] = joined_names(
            [arguments.column(f"features[{place}]", one) for place, one in enumerate(names)]
        )
    config: dict[str, Any] = {"format": "parquet", **named, **options}
    config["bipartite"] = arguments.flag("bipartite", bipartite)
    place = None if out is None else arguments.path("out", out)
    path, table = (
        (source, None) if isinstance(source, Path) else (FRAME, frame_table(source, "frame"))
    )
    config.setdefault("name", path.stem if place is None else None)
    if place is not None:
        return _imported(place, path, table, config)
    with tempfile.TemporaryDirectory(prefix="pres_dist-") as folder:
        stream = _imported(Path(folder) / "stream", path, table, config)
        # Copy memory maps, so that the files can be removed.
        arrays = {k: np.array(v) for k, v in vars(stream).items() if isinstance(v, np.ndarray)}
        ids = stream.node_ids
        if ids is not None:
            ids = pa.chunked_array([ids.take(pa.array(np.arange(len(ids)))).combine_chunks()])
        changed: dict[str, Any] = {**arrays, "node_ids": ids, "path": None}
        return replace(stream, **changed)


def _check_options(options: dict[str, Any]) -> None:
    known = [*OPTIONS, "node_features"]
    for name, value in options.items():
        if name == "time":
            raise ArgumentError("time is not an argument: the column of times is named by t")
        if name not in known:
            hint = suggest(
                name, ["src", "dst", "t", "label", "features", "bipartite", "out", *known]
            )
            raise ArgumentError(f"{name} is not an argument; {hint}")
        if name in ("sort", "force"):
            arguments.flag(name, value)


def _imported(out: Path, path: Path, table: Table | None, options: dict[str, Any]) -> EventStream:
    try:
        config = ImportConfig(source=path, out=out, **options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArgumentError(f"{where}: {first['msg']}, got {first['input']!r}") from None
    result = import_stream(config, table=table)
    for note in result.notes:
        # Level 5 is the caller of from_pandas: its check, stream_of and this function lie between.
        warnings.warn(note, PresDistWarning, stacklevel=5)
    return result.stream
