"""Write tables to files part by part, atomically."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pres_dist.errors import DataError
from pres_dist.files import replacing
from pres_dist.wording import printable

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet")


class TableWriter(Protocol):
    """Writer of tables that have the same columns."""

    def write(self, table: pa.Table) -> None:
        """Write the next rows."""


class CsvWriter:
    """Writer of a CSV file that quotes only where needed (Arrow would quote every text)."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._begun = False
        self._terminal = file.isatty()

    def write(self, table: pa.Table) -> None:
        if not self._begun:
            self._write([table.column_names])
            self._begun = True
        # Arrow writes the shortest form of a float32; None becomes an empty field.
        columns = [column.cast(pa.large_string()).to_pylist() for column in table.columns]
        self._write(zip(*columns, strict=True))

    def _write(self, rows: Iterable[Sequence[str | None]]) -> None:
        """Write rows; on a terminal, escape control characters."""
        if self._terminal:
            rows = ([printable(one or "") for one in row] for row in rows)
        self._writer.writerows(rows)


class ParquetWriter:
    """Writer of a Parquet file.

    Args:
        file: file to write.
        about: metadata of the schema.
    """

    def __init__(self, file: Path, about: Mapping[str, object]) -> None:
        self._file = file
        self._known = {f"pres_dist.{name}": str(value) for name, value in about.items()}
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        table = table.replace_schema_metadata(self._known)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def table_file(
    path: Path | None, about: Mapping[str, object] | None = None
) -> Iterator[TableWriter]:
    """Provide a writer to a .csv, .csv.gz or .parquet file, or of CSV to standard output if None.

    Raises:
        DataError: the suffix is not supported, or the file cannot be written.
    """
    if path is None:
        yield CsvWriter(sys.stdout)
        return
    check_place(path, TABLE_SUFFIXES)
    with new_file(path) as file:
        if ending(path) == ".csv":
            with file.open("w", encoding="utf-8", newline="") as opened:
                yield CsvWriter(opened)
            return
        if ending(path) == ".csv.gz":
            with file.open("wb") as raw, _gzipped(raw) as opened:
                yield CsvWriter(opened)
            return
        with closing(ParquetWriter(file, about or {})) as writer:
            yield writer


def ending(path: Path) -> str:
    """Return the suffix of a path, `.csv.gz` for a compressed CSV file."""
    return ".csv.gz" if path.name.endswith(".csv.gz") else path.suffix


@contextmanager
def _gzipped(raw: BinaryIO) -> Iterator[TextIO]:
    """Provide a text file inside a gzip file whose bytes do not depend on its name and date."""
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as opened,
    ):
        yield opened


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
