"""Detection of a file's kind by its first bytes, because its name may be wrong or missing."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pres_dist.errors import DataError
from pres_dist.events.readers.table import check_source

TableKind = Literal["csv", "parquet"]
_HEAD_BYTES = 4096
_PARQUET_SUFFIXES = (".parquet", ".pq")
_READ = ".csv, .csv.gz and .parquet are read"
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_PARQUET = b"PAR1"
_STARTS = {
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ\x00": "xz-compressed",
    b"\x5d\x00\x00": "lzma-compressed",
    b"\x04\x22\x4d\x18": "lz4-compressed",
    b"\xff\x06\x00\x00sNaPpY": "snappy-compressed",
    b"\x1f\x9d": "compressed by compress (.Z)",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"PARE": "encrypted Parquet",
    b"ARROW1": "a Feather or Arrow file",
    b"FEA1": "a Feather file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3\x00": "an SQLite database",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls)",
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a Git LFS pointer (`git lfs pull` fetches the file)",
}
_TEXTS = {
    r'\s*(\{\s*"|\[\s*[\[{])': "JSON",
    r"\s*<(!doctype|html|\?xml)": "an HTML or XML page",
}


def table_kind(path: Path) -> TableKind:
    """Return the kind of a table file: Parquet or CSV.

    Raises:
        DataError: the file cannot be read, or is of another kind, which the error names.
    """
    check_source(path)
    try:
        with path.open("rb") as opened:
            head = inner = opened.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if head.startswith(_PARQUET):
        return "parquet"
    if head.startswith(_GZIP):
        inner = b""
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as unpacked:
            inner = unpacked.read(_HEAD_BYTES)  # damaged: its reader raises the error
    other = _other(path, inner)
    if other is not None:
        packed = "gzip-compressed: " if inner is not head else ""
        raise DataError(f"{path}: is {packed}{other}; {_READ}")
    if path.suffix.lower() in _PARQUET_SUFFIXES:
        return "parquet"  # damaged: its reader raises the error
    if b"\0" in inner and not inner.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is binary data of an unknown format; {_READ}")
    return "csv"


def _other(path: Path, head: bytes) -> str | None:
    """Return a description of the bytes if they cannot be read as a table; else None."""
    if head.startswith(_PARQUET):
        return "Parquet, which has a compression of its own"
    if head.startswith(_ZIP):
        names: list[str] = []
        with (
            suppress(OSError, zipfile.BadZipFile, ValueError, NotImplementedError),
            zipfile.ZipFile(path) as archive,
        ):
            names = archive.namelist()
        return "an Excel workbook (.xlsx)" if "xl/workbook.xml" in names else "a zip archive"
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    for pattern, name in _TEXTS.items():
        if re.match(pattern, text, re.IGNORECASE):
            return name
    return None
