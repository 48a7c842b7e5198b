"""Column files: appending, reading, overwriting and sorting rows.

Plain reads and writes instead of memory maps keep the memory of an import bounded.
"""

from __future__ import annotations

import mmap
import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from pres_dist.events.storage import HEADER_BYTES, npy_header

MEMORY_BYTES = 256 << 20
SAMPLES_A_PART = 64


class ColumnFile:
    """One .npy file of ``dtype`` written row by row; ``width`` 0 is one-dimensional."""

    def __init__(self, file: Path, dtype: np.dtype, width: int = 0) -> None:
        self.file = file
        self._dtype = dtype
        self._width = width
        self._num_rows = 0
        self._stream = file.open("wb")
        # The number of rows is known only at the end; the header has a fixed size.
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
        """Close the file; the header is complete only after `flush`."""
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
        """Bytes per row."""
        return self.dtype.itemsize * max(1, self.width)

    def read(self, rows: slice) -> np.ndarray:
        """Return a copy of the rows in memory."""
        count = (rows.stop - rows.start) * max(1, self.width)
        offset = HEADER_BYTES + rows.start * self.row_bytes
        values = np.fromfile(self.file, self.dtype, count, offset=offset)
        return values.reshape(-1, self.width) if self.width else values

    def overwrite(self, start: int, values: np.ndarray) -> None:
        """Replace the rows from ``start`` on."""
        with self.file.open("r+b") as opened:
            opened.seek(HEADER_BYTES + start * self.row_bytes)
            opened.write(np.ascontiguousarray(values).data.cast("B"))


def write_column(file: Path, rows: np.ndarray, dtype: np.dtype) -> None:
    """Store [n] or [n, width] rows as a .npy file of `dtype`."""
    column = ColumnFile(file, dtype, rows.shape[1] if rows.ndim == 2 else 0)
    try:
        column.append(rows)
        column.flush()
    finally:
        column.close()


def splitters_of(samples: np.ndarray, every: int) -> np.ndarray:
    """Return the keys that cut sorted rows into ranges of about `every` samples.

    A key with very many rows becomes a range of its own, with one cut before it and one after it.
    """
    chosen = np.sort(samples)[:: max(1, every)][1:]
    repeated = chosen[1:][chosen[1:] == chosen[:-1]]
    after = repeated[repeated < np.iinfo(np.int64).max] + 1
    return np.unique(np.concatenate([chosen, after]))


def forget_pages(column: np.ndarray) -> None:
    """Release the pages of a read-only memory map, or a view of one, from process memory.

    They stay in the page cache, so reading them again does not read the disk.
    """
    if isinstance(column, np.memmap) and column.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        column._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def sort_by_time(directory: Path, columns: list[str], memory_bytes: int = MEMORY_BYTES) -> None:
    """Sort the .npy ``columns`` of ``directory`` by column ``t``, in place and in bounded memory.

    Sorts runs, then merges them by ranges of time, which are chosen from a sample. The sort is
    stable, and needs free disk space of the size of the stream.
    """
    readers = {column: ColumnReader(directory / f"{column}.npy") for column in columns}
    row_bytes = sum(reader.row_bytes for reader in readers.values())
    # A part is held three times: as slices, concatenated, and permuted.
    part = max(1, memory_bytes // (3 * row_bytes))
    times = readers["t"]
    runs = [slice(at, min(at + part, times.num_rows)) for at in range(0, times.num_rows, part)]
    for run in runs:
        order = np.argsort(times.read(run), kind="stable")
        for reader in readers.values():
            reader.overwrite(run.start, reader.read(run)[order])
    # A part is off by at most one step per run.
    step = max(1, part // (SAMPLES_A_PART * len(runs)))
    # Copy the samples, because a view would keep its whole run in memory.
    samples = np.concatenate([times.read(run)[::step].copy() for run in runs])
    parts = _parts(times, runs, splitters_of(samples, part // (2 * step)))
    for column, reader in readers.items():
        _merge(reader, times, parts, directory / f"{column}.sorted")
    for column in columns:
        (directory / f"{column}.sorted").replace(directory / f"{column}.npy")


def _merge(
    reader: ColumnReader, times: ColumnReader, parts: list[list[slice]], output_file: Path
) -> None:
    """Write one column in time order."""
    output = ColumnFile(output_file, reader.dtype, reader.width)
    try:
        for slices in parts:
            ends = [row for rows in slices for row in (rows.start, rows.stop - 1)]
            # Slices are sorted. If all events have the same time, they are already in order.
            if len({int(times.read(slice(row, row + 1))[0]) for row in ends}) == 1:
                for rows in slices:
                    output.append(reader.read(rows))
                continue
            t = np.concatenate([times.read(rows) for rows in slices])
            values = np.concatenate([reader.read(rows) for rows in slices])
            output.append(values[np.argsort(t, kind="stable")])
        output.flush()
    finally:
        output.close()


def _parts(times: ColumnReader, runs: list[slice], splitters: np.ndarray) -> list[list[slice]]:
    """Return the slices of the runs, in the order of the runs, of each output part."""
    cuts = [
        [run.start, *(run.start + np.searchsorted(times.read(run), splitters)).tolist(), run.stop]
        for run in runs
    ]
    bounds = zip(*(pairwise(cut) for cut in cuts), strict=True)
    parts = [[slice(start, stop) for start, stop in part if stop > start] for part in bounds]
    return [part for part in parts if part]
