"""Sorted keys of a stream's half-edges, in memory, or in a file with bounded memory.

A half-edge is an event as seen from one of its endpoints, and its key is ``row * num_events +
event_id``. The row is the node, or, if that would overflow int64, its rank among the nodes
that occur.

With bounded memory, rows are divided by degree into ranges whose keys fit the budget. The
position of each range in the file is then known in advance: one pass over the stream writes
every key into its range, and then each range is sorted in place.

Shapes: E events, H half-edges (2E less self-loops), R rows, C cells of adjacent rows that are
counted together (one row each, unless there are very many), G ranges of cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np

from pres_dist.errors import DataError
from pres_dist.events.columns import ColumnFile, ColumnReader, forget_pages
from pres_dist.events.storage import ADJACENCY, HEADER_BYTES, INT, npy_header
from pres_dist.events.stream import CHUNK_EVENTS, EventStream

MEMORY_BYTES = 256 << 20
_MOST_CELLS = 1 << 24
_INT64_LIMIT = 1 << 63


class HalfEdges:
    """The half-edges of a stream, with methods to sort their keys.

    A self-loop is one event, and has one half-edge.

    Args:
        stream: the events.
        keep: [E] bool, False for events to exclude; None keeps all.

    Attributes:
        present_R: sorted nodes that occur, if rows are ranks among them; None if a row is the
            node.

    Raises:
        DataError: more rows x events than int64 can number.
    """

    what, prefix = "adjacency", ADJACENCY

    def __init__(self, stream: EventStream, keep: np.ndarray | None = None) -> None:
        self.stream, self._keep = stream, keep
        self.present_R = _present_if_needed(stream)

    def digest(self) -> str:
        """Return the SHA-256 of all inputs that determine the keys."""
        return digest_of(self.stream, self._keep)

    def sorted(self) -> np.ndarray:
        """Return the [H] int64 keys, ascending. They are unique, so the sort need not be stable."""
        keys_H = np.empty(self._most, dtype=INT)
        num = 0
        for keys in self._chunks():
            keys_H[num : num + keys.size] = keys
            num += keys.size
        keys_H = keys_H[:num]
        keys_H.sort()
        return keys_H

    def write(self, file: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        """Write the result of `sorted` as a .npy file.

        Args:
            file: file to replace.
            memory_bytes: bytes of keys to hold at a time, even for nodes with more keys: their
                half-edges are written in order. Each row takes another 8 bytes, at most
                128 MiB in total.
        """
        if self._most * INT.itemsize <= memory_bytes:
            write_column(file, self.sorted())
            return
        width = -(-self._num_rows // _MOST_CELLS)
        ends_C = self._ends(width)
        first_cell_G = _ranges(ends_C, max(memory_bytes // INT.itemsize, 1))
        bounds = [0, *ends_C[first_cell_G[1:] - 1].tolist(), int(ends_C[-1])]
        make_room(file, bounds[-1])
        column = ColumnReader(file)
        self._write_ranges(column, first_cell_G * width, bounds[:-1])
        num_cells_G = np.diff(first_cell_G, append=ends_C.size)
        for (start, stop), num_cells in zip(pairwise(bounds), num_cells_G.tolist(), strict=True):
            if width > 1 or num_cells > 1:
                _sort(column, start, stop)

    def _ends(self, width: int) -> np.ndarray:
        """Return the [C] cumulative half-edges of cells of `width` rows, own cell included."""
        degrees_C = np.zeros(-(-self._num_rows // width), dtype=np.int64)
        for rows, _ in self._rows_and_events():
            np.add.at(degrees_C, rows if width == 1 else rows // width, 1)
        return np.cumsum(degrees_C, out=degrees_C)

    def _write_ranges(
        self, column: ColumnReader, first_row_G: np.ndarray, places: list[int]
    ) -> None:
        """Write every key into the range of its row, starting at the given places.

        Keys of one row are written in order, since events are in order.
        """
        first_keys = first_row_G[1:] * self.stream.num_events
        for keys in self._chunks():
            keys.sort()
            for number, piece in enumerate(np.split(keys, np.searchsorted(keys, first_keys))):
                if piece.size:
                    column.overwrite(places[number], piece)
                    places[number] += piece.size

    def _chunks(self) -> Iterator[np.ndarray]:
        """Yield unsorted keys of consecutive events, chunk by chunk."""
        for rows, events in self._rows_and_events():
            rows *= self.stream.num_events
            rows += events
            yield rows

    def _rows_and_events(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield row and event of each half-edge, chunk by chunk."""
        for own, src, dst in endpoints_of(self.stream):
            events = np.arange(own.start, own.stop)
            if self._keep is not None:
                kept = self._keep[own]
                events, src, dst = events[kept], src[kept], dst[kept]
            twice = src != dst
            nodes = np.concatenate([src, dst[twice]])
            rows = nodes if self.present_R is None else np.searchsorted(self.present_R, nodes)
            yield rows, np.concatenate([events, events[twice]])

    @property
    def _num_rows(self) -> int:
        return self.stream.num_nodes if self.present_R is None else self.present_R.size

    @property
    def _most(self) -> int:
        """Upper bound of the number of half-edges, which ignores self-loops."""
        kept = self.stream.num_events if self._keep is None else int(np.count_nonzero(self._keep))
        return 2 * kept


def digest_of(stream: EventStream, keep: np.ndarray | None) -> str:
    """Return the SHA-256 of the endpoints of all events and of the mask."""
    whole = hashlib.sha256(f"{stream.num_nodes} x {stream.num_events}".encode())
    for events, src, dst in endpoints_of(stream):
        whole.update(src.data)
        whole.update(dst.data)
        if keep is not None:
            whole.update(np.ascontiguousarray(keep[events]).data)
    return whole.hexdigest()


def endpoints_of(stream: EventStream) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield chunks of events, their sources and destinations; release pages after reading."""
    for start in range(0, stream.num_events, CHUNK_EVENTS):
        own = slice(start, min(start + CHUNK_EVENTS, stream.num_events))
        src, dst = (np.ascontiguousarray(column[own], INT) for column in (stream.src, stream.dst))
        yield own, src, dst
        forget_pages(stream.src)
        forget_pages(stream.dst)


def _present_if_needed(stream: EventStream) -> np.ndarray | None:
    """Return sorted ids of the nodes that occur if node * num_events would overflow int64."""
    if stream.num_nodes * stream.num_events < _INT64_LIMIT:
        return None
    present: np.ndarray = reduce(
        np.union1d, (np.union1d(src, dst) for _, src, dst in endpoints_of(stream))
    )
    if present.size * stream.num_events >= _INT64_LIMIT:
        raise DataError(
            f"{stream.name}: {present.size} nodes x {stream.num_events} events is beyond the "
            f"2^63 that the adjacency can index"
        )
    return present


def _ranges(ends_C: np.ndarray, most: int) -> np.ndarray:
    """Return the [G] first cells of ranges with at most `most` half-edges, or of one cell."""
    first_cells, done = [0], 0
    while ends_C[-1] - done > most and first_cells[-1] + 1 < ends_C.size:
        cell = int(np.searchsorted(ends_C, done + most, side="right"))
        first_cells.append(max(cell, first_cells[-1] + 1))
        done = int(ends_C[first_cells[-1] - 1])
    return np.array(first_cells)


def _sort(column: ColumnReader, start: int, stop: int) -> None:
    """Sort a range of a file; a separate function, so that memory holds one range at a time."""
    keys = column.read(slice(start, stop))
    keys.sort()
    column.overwrite(start, keys)


def make_room(file: Path, num: int) -> None:
    """Create a .npy file with space for `num` keys, to be overwritten."""
    with file.open("wb") as opened:
        opened.write(npy_header(INT, (num,)))
        opened.truncate(HEADER_BYTES + num * INT.itemsize)


def write_column(file: Path, keys_H: np.ndarray) -> None:
    column = ColumnFile(file, INT)
    try:
        column.append(keys_H)
        column.flush()
    finally:
        column.close()
