"""Tables in memory as sources of events: pandas DataFrames and Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pres_dist.errors import ArgumentError, DataError
from pres_dist.events.readers.table import list_width
from pres_dist.events.times import column_of

FRAME = Path("DataFrame")
"""Path shown for a table without a file."""
ROWS = 1 << 20


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
        if type(kind).__name__ == "SparseDtype":
            values: Any = np.asarray(series)
        else:
            values = series
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
            if isinstance(value, str) and not _is_unicode(value):
                raise DataError(f"{self.locate(row)}: {name} must be Unicode text, got {value!r}")
        kinds = [type(value).__name__ for value in values]
        given = [row for row, value in enumerate(values) if value is not None and value == value]
        for row in given:
            if kinds[row] != kinds[given[0]]:
                raise DataError(
                    f"{self.locate(row)}: a column has values of several types: {name} must be "
                    f"{kinds[given[0]]} as before, got {kinds[row]}"
                )
        reason = str(error).splitlines()[0]
        raise DataError(f"{FRAME}: column {name!r} cannot be read: {reason}") from None


def _is_unicode(text: str) -> bool:
    """Return True if the text can be encoded as UTF-8; lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
