"""What every reader of a table of events offers, and how it reports damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pres_dist.errors import DataError
from pres_dist.events.convert import WHITE_SPACE


class Table(Protocol):
    """A file of rows with named columns, read in batches of bounded size."""

    path: Path
    columns: list[str]
    """Names in the order of the file."""
    size: int
    """Bytes of the file."""

    @property
    def position(self) -> int:
        """Bytes read so far, about."""

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows in order, with only ``columns``; ``DataError`` where damaged."""

    def locate(self, row: int) -> str:
        """Where the row, counted from 0, stands in the file."""


def column_named(columns: list[str], wanted: str) -> str:
    """Return the column that a name means: its own, or else the one with white space around.

    Headers are often written as ``src, dst, t``.
    """
    if wanted in columns:
        return wanted
    trimmed = wanted.strip(WHITE_SPACE)
    found = [column for column in columns if column.strip(WHITE_SPACE) == trimmed]
    return found[0] if len(found) == 1 else wanted


def require_columns(table: Table, wanted: list[str]) -> None:
    """Each wanted column must be in the file, once, and be wanted once."""
    for column in wanted:
        count = table.columns.count(column)
        if count != 1:
            problem = "is missing" if count == 0 else f"is there {count} times"
            shown = ", ".join(table.columns[:12]) + (", ..." if len(table.columns) > 12 else "")
            raise DataError(f"{table.path}: column {column!r} {problem}; the columns are: {shown}")
        if wanted.count(column) > 1:
            raise DataError(f"{table.path}: column {column!r} cannot be used for two things")


def check_source(path: Path) -> int:
    """Size in bytes of a file that can be read; ``DataError`` for others."""
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise DataError(f"{path}: the file is empty")
    return size
