"""Protocol of the readers of event tables, their checks, and the reader of Parquet files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from pres_dist.errors import DataError, first_line
from pres_dist.events.convert import WHITE_SPACE, is_list
from pres_dist.wording import setting

BATCH_VALUES = 1 << 21
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError)


class Table(Protocol):
    """A file of rows with named columns, read in batches of bounded size."""

    path: Path
    columns: list[str]
    """Names in the order of the file."""
    size: int
    """Size of the file in bytes."""

    @property
    def position(self) -> int:
        """Approximate number of bytes read so far."""

    def width(self, column: str) -> int:
        """Return the numbers per row of a column: 1, or the length of its first list."""

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, with only ``columns``; raise ``DataError`` if damaged."""

    def locate(self, row: int) -> str:
        """Return the place of a row, counted from 0, in the file."""


def column_named(columns: list[str], wanted: str) -> str:
    """Return the column of a name, ignoring white space around it if none matches exactly.

    Headers are often written as ``src, dst, t``.
    """
    if wanted in columns:
        return wanted
    trimmed = wanted.strip(WHITE_SPACE)
    found = [column for column in columns if column.strip(WHITE_SPACE) == trimmed]
    return found[0] if len(found) == 1 else wanted


def require_columns(table: Table, wanted: list[str]) -> None:
    """Raise DataError unless each wanted column is in the file once and is wanted once."""
    for column in wanted:
        count = table.columns.count(column)
        if count != 1:
            problem = "is missing" if count == 0 else f"is there {count} times"
            shown = ", ".join(table.columns[:12]) + (", ..." if len(table.columns) > 12 else "")
            separators = {";": ";", "|": "|", "\t": "tab", " ": "space"}
            for mark, name in separators.items():
                if len(table.columns) == 1 and mark in table.columns[0]:
                    shown += f" (is it one column? {setting('delimiter', name)} splits it)"
                    break
            raise DataError(f"{table.path}: column {column!r} {problem}; the columns are: {shown}")
        if wanted.count(column) > 1:
            raise DataError(f"{table.path}: column {column!r} cannot be used for two things")


def list_width(column: pa.Array) -> int:
    """Return the length of the first list of a column; 1 for a column of numbers."""
    if pt.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    if not is_list(column.type):
        return 1
    present = column.drop_null()
    return len(present[0]) if len(present) else 1


def check_source(path: Path) -> int:
    """Return the size of a readable file in bytes; raise ``DataError`` for other files."""
    try:
        status = path.stat()
        # Opening a pipe would wait for its writer, and it can be read once only.
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise DataError(f"{path}: must be a regular file, got a pipe or device")
        with path.open("rb"):
            size = status.st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise DataError(f"{path}: the file is empty")
    return size


class ParquetTable:
    """One Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = check_source(path)
        self._rows_read = 0
        try:
            self._file = pq.ParquetFile(
                path, memory_map=False, pre_buffer=False, page_checksum_verification=True
            )
            self.columns = list(self._file.schema_arrow.names)
        except DAMAGED as error:
            raise self._damaged(error) from None

    @property
    def position(self) -> int:
        """Approximate number of bytes read so far."""
        return self.size * self._rows_read // max(1, self._file.metadata.num_rows)

    def width(self, column: str) -> int:
        """Return the numbers per row of a column: 1, or the length of its first list."""
        kind = self._file.schema_arrow.field(column).type
        if not is_list(kind):
            return 1
        return list_width(next(self.batches([column]), pa.nulls(0, kind)).column(0))

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, with the types of the file."""
        size = max(1024, BATCH_VALUES // len(columns))
        self._rows_read = 0
        try:
            for batch in self._file.iter_batches(size, columns=columns, use_threads=False):
                batch.validate(full=True)
                self._rows_read += batch.num_rows
                yield batch
        except DAMAGED as error:
            raise self._damaged(error) from None

    def locate(self, row: int) -> str:
        """Return the place of a row, such as ``events.parquet: row 812``, counted from 0."""
        return f"{self.path}: row {row}"

    def _damaged(self, error: BaseException) -> DataError:
        return DataError(f"{self.path}: cannot be read as Parquet: {first_line(error)}")
