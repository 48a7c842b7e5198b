"""Reader of CSV and TSV files, plain or compressed with gzip.

pyarrow reads in bulk, and every value as text, so that it can be converted exactly.
After an error the file is read a second time, slowly, to find the line.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from pres_dist.errors import DataError, first_line
from pres_dist.events.readers.table import check_source

BLOCK_BYTES = 8 << 20
LONGEST_LINE = BLOCK_BYTES
"""Limit of a line in characters; pyarrow cannot read a row that is longer than a block."""
_QUOTED = re.compile(r'^[ \t]+"(?s:.*)"[ \t]*$')
DAMAGED_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


class CsvTable:
    """A CSV file with a header.

    Args:
        path: the file.
        columns: column names that replace the header; None for the names of the header.
        delimiter: column separator; None for a tab if the header has one, else a comma.
    """

    def __init__(
        self, path: Path, columns: list[str] | None = None, delimiter: str | None = None
    ) -> None:
        self.path = path
        self.size = check_source(path)
        self._file: pa.NativeFile | None = None
        self.delimiter = delimiter or ","
        self._header_line, header = first_rows(path, 1, self.delimiter)[0]
        if delimiter is None and any("\t" in name for name in header):
            self.delimiter = "\t"
            header = first_rows(path, 1, self.delimiter)[0][1]
        self.columns = [_unquoted(name) for name in header] if columns is None else columns

    @property
    def position(self) -> int:
        """Number of bytes read so far, before decompression."""
        return 0 if self._file is None or self._file.closed else int(self._file.tell())

    def width(self, column: str) -> int:
        """Return 1: a CSV field holds one number."""
        return 1

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, all values as texts."""
        try:
            with pa.OSFile(str(self.path), "rb") as self._file:
                gzipped = is_gzip(self.path)
                opened = pa_csv.open_csv(
                    pa.CompressedInputStream(self._file, "gzip") if gzipped else self._file,
                    pa_csv.ReadOptions(
                        use_threads=False,
                        block_size=BLOCK_BYTES,
                        skip_rows=self._header_line,
                        column_names=self.columns,
                    ),
                    pa_csv.ParseOptions(delimiter=self.delimiter),
                    pa_csv.ConvertOptions(
                        include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
                    ),
                )
                for batch in opened:
                    yield pa.record_batch(list(map(_without_quotes, batch)), columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._explain(error) from None

    def locate(self, row: int) -> str:
        """Return the place of a row, such as ``events.csv:812``."""
        try:
            records = read_rows(self.path, self.delimiter)
            for number, (line, _) in enumerate(records, start=-1):
                if number == row:
                    return f"{self.path}:{line}"
        except (DataError, csv.Error):
            pass
        return f"{self.path}: event {row}"

    def _explain(self, error: Exception) -> DataError:
        """Return an error with the line that pyarrow failed on, or else with its message."""
        width = len(self.columns)
        try:
            for number, (line, row) in enumerate(read_rows(self.path, self.delimiter)):
                if number and len(row) != width:
                    where = f"{self.path}:{line}"
                    return DataError(f"{where}: must have {width} fields, got {len(row)}")
        except DataError as found:
            return found
        except csv.Error as found:
            return DataError(f"{self.path}: is not CSV: {found}")
        return DataError(f"{self.path}: cannot be read as CSV: {first_line(error)}")


def _unquoted(field: str) -> str:
    """Return a field without quotes that follow blanks, which CSV readers keep in the field."""
    if not _QUOTED.match(field):
        return field
    return field.strip(" \t")[1:-1].replace('""', '"')


def _without_quotes(column: pa.Array) -> pa.Array:
    """Return a column with `_unquoted` applied to each field."""
    characters = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    if not (characters == ord('"')).any():
        return column
    # Arrow takes `1, "2"` literally, blank and quotes included.
    quoted = pc.match_substring_regex(column, _QUOTED.pattern)
    inner = pc.replace_substring_regex(column, r'^[ \t]+"((?s:.*))"[ \t]*$', r"\1")
    return pc.if_else(quoted, pc.replace_substring(inner, '""', '"'), column)


def is_gzip(path: Path) -> bool:
    """Return True if the file starts like a gzip file."""
    with path.open("rb") as opened:
        return opened.read(2) == b"\x1f\x8b"


def first_rows(path: Path, count: int, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Return the first ``count`` rows, header included; raise ``DataError`` if there are fewer."""
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in read_rows(path, delimiter):
            rows.append(row)
            if len(rows) == count:
                return rows
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV: {error}") from None
    raise DataError(f"{path}: there must be a header and at least one event, got {len(rows)} rows")


def read_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number (from 1) and fields of each row that is not blank; slow."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as opened:
            reader = csv.reader(_decoded_lines(opened, path), delimiter=delimiter)
            start = 1
            for row in reader:
                if row:
                    yield start, row
                start = reader.line_num + 1
    except DAMAGED_GZIP as error:
        raise DataError(f"{path}: the compressed data is damaged or cut off: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _decoded_lines(opened: gzip.GzipFile | io.BufferedReader, path: Path) -> Iterator[str]:
    text = io.TextIOWrapper(opened, encoding="utf-8", errors="surrogateescape", newline="")
    lines = iter(lambda: text.readline(LONGEST_LINE), "")
    for number, line in enumerate(lines, start=1):
        if len(line) == LONGEST_LINE:  # a few KiB of gzip may expand to gigabytes of one line
            raise DataError(f"{path}:{number}: a line must be shorter than {LONGEST_LINE:,}")
        if not line.isascii():
            try:
                line.encode("utf-8")
            except UnicodeEncodeError:
                raise DataError(f"{path}:{number}: must be UTF-8 text") from None
        yield line.removeprefix("\ufeff") if number == 1 else line
