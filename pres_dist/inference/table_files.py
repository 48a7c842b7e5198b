"""Write tables to files part by part, atomically."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pres_dist.errors import DataError
from pres_dist.files import replacing
from pres_dist.wording import printable

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet")


class CsvWriter:
    """Writer of a CSV file that quotes only where needed (Arrow would quote every text)."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._begun = False
        self._terminal = file.isatty()

    def write(self, table: pa.Table) -> None:
        """Write the next rows, after the names of the columns the first time."""
        # Arrow writes the shortest form of a float32; None becomes an empty field.
        columns = [column.cast(pa.large_string()).to_pylist() for column in table.columns]
        rows: Iterable[Sequence[str | None]] = zip(*columns, strict=True)
        if not self._begun:
            rows = chain([table.column_names], rows)
            self._begun = True
        if self._terminal:  # escape control characters
            rows = ([printable(one or "") for one in row] for row in rows)
        self._writer.writerows(rows)


class ParquetWriter:
    """Writer of a Parquet file; `about` is metadata of its schema."""

    def __init__(self, file: Path, about: Mapping[str, object]) -> None:
        self._file = file
        self._known = {f"pres_dist.{name}": str(value) for name, value in about.items()}
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Write the next rows."""
        table = table.replace_schema_metadata(self._known)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write the end of the file."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def table_file(
    path: Path | None, about: Mapping[str, object] | None = None
) -> Iterator[CsvWriter | ParquetWriter]:
    """Provide a writer to a .csv, .csv.gz or .parquet file, or of CSV to standard output if None.

    Raises:
        DataError: the suffix is not supported, or the file cannot be written.
    """
    if path is None:
        yield CsvWriter(sys.stdout)
        return
    check_place(path, TABLE_SUFFIXES)
    with new_file(path) as file, ExitStack() as stack:
        if ending(path) == ".parquet":
            yield stack.enter_context(closing(ParquetWriter(file, about or {})))
        elif ending(path) == ".csv":
            yield CsvWriter(stack.enter_context(file.open("w", encoding="utf-8", newline="")))
        else:
            raw = stack.enter_context(file.open("wb"))
            # no name and date, so that the bytes do not depend on them
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
            stack.enter_context(packed)
            text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
            yield CsvWriter(stack.enter_context(text))


def ending(path: Path) -> str:
    """Return the suffix of a path, `.csv.gz` for a compressed CSV file."""
    return ".csv.gz" if path.name.endswith(".csv.gz") else path.suffix


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Provide a temporary file that replaces `path`; raise DataError if it cannot be written."""
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def check_place(path: Path, suffixes: tuple[str, ...]) -> None:
    """Raise DataError unless `path` has one of the suffixes and its folder exists."""
    if ending(path) not in suffixes:
        *others, last = suffixes
        allowed = f"{', '.join(others)} or {last}" if others else last
        hint = "" if path.suffix != ".npy" else " (a .npy file has no place for the ids)"
        raise DataError(f"--out must be a {allowed} file, got {str(path)!r}{hint}")
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path}: cannot be written: there is no folder {path.parent}")
