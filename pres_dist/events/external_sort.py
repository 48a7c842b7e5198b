"""External sort of a stream by time, in bounded memory.

Sorts runs, then merges them by ranges of time. The times that split the output into
parts of bounded size are sampled from the sorted runs. Each part is the sorted
concatenation of one slice of every run. The sort is stable: events of equal time keep
their order. It needs free disk space of the size of the stream.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pres_dist.events.columns import ColumnFile, ColumnReader

MEMORY_BYTES = 256 << 20
SAMPLES_A_PART = 64


def sort_by_time(directory: Path, columns: list[str], memory_bytes: int = MEMORY_BYTES) -> None:
    """Sort the .npy ``columns`` of ``directory`` by column ``t``, in place."""
    readers = {column: ColumnReader(directory / f"{column}.npy") for column in columns}
    row_bytes = sum(reader.row_bytes for reader in readers.values())
    # A part is held three times: as slices, concatenated, and permuted.
    part = max(1, memory_bytes // (3 * row_bytes))
    runs = _sort_runs(readers, part)
    times = readers["t"]
    parts = [slices for slices in _parts(times, runs, _splitters(times, runs, part)) if slices]
    for column, reader in readers.items():
        _merge(reader, times, parts, directory / f"{column}.sorted")
    for column in columns:
        (directory / f"{column}.sorted").replace(directory / f"{column}.npy")


def _sort_runs(readers: dict[str, ColumnReader], size: int) -> list[slice]:
    events = readers["t"].num_rows
    runs = [slice(start, min(start + size, events)) for start in range(0, events, size)]
    for run in runs:
        order = np.argsort(readers["t"].read(run), kind="stable")
        for reader in readers.values():
            reader.overwrite(run.start, reader.read(run)[order])
    return runs


def _merge(
    reader: ColumnReader, times: ColumnReader, parts: list[list[slice]], output_file: Path
) -> None:
    """Write one column in time order."""
    output = ColumnFile(output_file, reader.dtype, reader.width)
    try:
        for slices in parts:
            # If all events have the same time, they are already in order.
            if times.one_value(slices):
                for rows in slices:
                    output.append(reader.read(rows))
                continue
            order = np.argsort(times.read_all(slices), kind="stable")
            output.append(reader.read_all(slices)[order])
        output.flush()
    finally:
        output.close()


def _parts(times: ColumnReader, runs: list[slice], splitters: np.ndarray) -> list[list[slice]]:
    """Return the slices of the runs, in the order of the runs, of each output part."""
    cuts = [
        [run.start, *(run.start + np.searchsorted(times.read(run), splitters)), run.stop]
        for run in runs
    ]
    return [
        [slice(int(cut[i]), int(cut[i + 1])) for cut in cuts if cut[i + 1] > cut[i]]
        for i in range(len(splitters) + 1)
    ]


def _splitters(times: ColumnReader, runs: list[slice], part: int) -> np.ndarray:
    """Return times that cut the output into parts of about half of ``part`` events.

    Runs are sampled every ``part // (64 * runs)`` events, so a part is off by at most
    that many events per run. A time with very many events becomes a part of its own,
    with one cut before it and one after it.
    """
    step = max(1, part // (SAMPLES_A_PART * len(runs)))
    # Copy the samples, because a view would keep its whole run in memory.
    samples = np.sort(np.concatenate([times.read(run)[::step].copy() for run in runs]))
    chosen = samples[:: max(1, part // (2 * step))][1:]
    repeated = np.unique(chosen[1:][chosen[1:] == chosen[:-1]])
    after = repeated[repeated < np.iinfo(np.int64).max] + 1
    return np.unique(np.concatenate([chosen, after]))
