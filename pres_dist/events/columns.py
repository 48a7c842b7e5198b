"""Column files: appending rows, and reading and overwriting slices of rows.

Plain reads and writes instead of memory maps keep the memory of an import bounded.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from pres_dist.events.storage import HEADER_BYTES, npy_header


class ColumnFile:
    """One .npy file of ``dtype`` written row by row; ``width`` 0 is one-dimensional."""

    def __init__(self, file: Path, dtype: np.dtype, width: int = 0) -> None:
        self.file = file
        self._dtype = dtype
        self._width = width
        self._num_rows = 0
        self._stream = file.open("wb")
        self._stream.write(bytes(HEADER_BYTES))

    def append(self, rows: np.ndarray) -> None:
        """Write [n] or [n, width] rows at the end."""
        values = np.ascontiguousarray(rows, dtype=self._dtype)
        self._stream.write(values.data.cast("B"))
        self._num_rows += len(values)

    def flush(self) -> None:
        """Fill in the header and make the written rows visible to readers."""
        shape = (self._num_rows, self._width) if self._width else (self._num_rows,)
        self._stream.flush()
        self._stream.seek(0)
        self._stream.write(npy_header(self._dtype, shape))
        self._stream.flush()
        self._stream.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._stream.close()


class ColumnReader:
    """A finished .npy file of rows, read and overwritten by slices of rows."""

    def __init__(self, file: Path) -> None:
        self.file = file
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        self.dtype = mapped.dtype
        self.num_rows = len(mapped)
        self.width = mapped.shape[1] if mapped.ndim == 2 else 0

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * max(1, self.width)

    def read(self, rows: slice) -> np.ndarray:
        """Return a copy of the rows in memory."""
        count = (rows.stop - rows.start) * max(1, self.width)
        offset = HEADER_BYTES + rows.start * self.row_bytes
        values = np.fromfile(self.file, self.dtype, count, offset=offset)
        return values.reshape(-1, self.width) if self.width else values

    def read_all(self, slices: list[slice]) -> np.ndarray:
        """Return a copy of the rows of all slices, one after another."""
        return np.concatenate([self.read(rows) for rows in slices])

    def overwrite(self, start: int, values: np.ndarray) -> None:
        """Replace the rows from ``start`` on."""
        with self.file.open("r+b") as opened:
            opened.seek(HEADER_BYTES + start * self.row_bytes)
            opened.write(np.ascontiguousarray(values).data.cast("B"))

    def one_value(self, slices: list[slice]) -> bool:
        """Return True if all rows of the slices are equal; each slice must be sorted."""
        ends = [row for rows in slices for row in (rows.start, rows.stop - 1)]
        return len({int(self.read(slice(row, row + 1))[0]) for row in ends}) == 1


def forget_pages(column: np.ndarray) -> None:
    """Release the pages of a read-only memory map, or a view of one, from process memory.

    They stay in the page cache, so reading them again does not read the disk.
    """
    if isinstance(column, np.memmap) and column.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        column._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def fsync(path: Path) -> None:
    """Make a file, or the entries of a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
