"""Sorted indexes of a stream's events, in memory, or in a file with bounded memory.

With bounded memory, keys are divided into ranges at splitters chosen from a sample. One pass over
the stream counts the keys of each range, so that its position in the file is known. A second pass
writes every key into its range, and then each range is sorted in place.

Shapes: E events, H rows of the index, R nodes that occur, C columns of the index, G ranges.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from pres_dist.errors import DataError
from pres_dist.events.columns import ColumnReader, forget_pages, splitters_of, write_column
from pres_dist.events.storage import ADJACENCY, HEADER_BYTES, INT, PAIRS, npy_header
from pres_dist.events.stream import CHUNK_EVENTS, EventStream
from pres_dist.events.tables import tensor_of
from pres_dist.sampling.event_groups import PairKeys, check_num_events

MEMORY_BYTES = 256 << 20
_SAMPLES_A_RANGE = 64
_INT64_LIMIT = 1 << 63


class SortedIndex(ABC):
    """Sorted int64 columns computed from the endpoints of a stream's events.

    Args:
        stream: the events.
        keep: [E] bool, False for events to exclude; None keeps all.
    """

    what: ClassVar[str]
    """Name in errors."""
    prefix: ClassVar[str]
    """Prefix of the names of files that store it."""
    _columns: ClassVar[int] = 1
    _rows_an_event: ClassVar[int] = 1
    _sort_bytes: ClassVar[int]
    """Bytes per row while a range is sorted."""

    def __init__(self, stream: EventStream, keep: np.ndarray | None = None) -> None:
        self.stream, self._keep = stream, keep

    @abstractmethod
    def _rows(self, events: np.ndarray, src: np.ndarray, dst: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the unsorted columns of some events; the first holds the keys to sort by."""

    @abstractmethod
    def _arrange(self, columns_CH: np.ndarray, first: int) -> None:
        """Sort rows in place, given that they begin at position `first` of the index."""

    def digest(self) -> str:
        """Return the SHA-256 of all inputs that determine the index."""
        stream = self.stream
        whole = hashlib.sha256(f"{stream.num_nodes} x {stream.num_events}".encode())
        for events, src, dst in endpoints_of(stream):
            whole.update(src.data)
            whole.update(dst.data)
            if self._keep is not None:
                whole.update(np.ascontiguousarray(self._keep[events]).data)
        return whole.hexdigest()

    def sorted(self) -> np.ndarray:
        """Return the columns one after another: int64 [C * H]."""
        columns_CH = np.empty((self._columns, self._most_rows), dtype=INT)
        num = 0
        for rows in self._chunks():
            end = num + rows[0].size
            for column, values in zip(columns_CH, rows, strict=True):
                column[num:end] = values
            num = end
        columns_CH = columns_CH[:, :num]
        self._arrange(columns_CH, 0)
        return columns_CH.reshape(-1)

    def write(self, file: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        """Write the result of `sorted` as a .npy file, with `memory_bytes` of rows at a time."""
        most = max(memory_bytes // self._sort_bytes, 1)
        if self._most_rows <= most:
            write_column(file, self.sorted(), INT)
            return
        step = max(1, most // _SAMPLES_A_RANGE)
        # Copy the samples, because a view would keep its whole chunk in memory.
        samples = [rows[0][::step].copy() for rows in self._chunks()]
        splitters = splitters_of(np.concatenate(samples), most // (2 * step))
        counts_G = np.zeros(splitters.size + 1, dtype=np.int64)
        for rows in self._chunks():
            ranges = np.searchsorted(splitters, rows[0], side="right")
            counts_G += np.bincount(ranges, minlength=counts_G.size)
        bounds = [0, *np.cumsum(counts_G).tolist()]
        with file.open("wb") as opened:
            opened.write(npy_header(INT, (self._columns * bounds[-1],)))
            opened.truncate(HEADER_BYTES + self._columns * bounds[-1] * INT.itemsize)
        room = ColumnReader(file)
        self._scatter(room, splitters, bounds)
        # The rows of a range with a single key are in order, so it can be sorted in pieces.
        single = [False, *(np.diff(splitters) == 1).tolist(), False]
        for (start, stop), has_one_key in zip(pairwise(bounds), single, strict=False):
            size = most if has_one_key else max(stop - start, 1)
            for begin in range(start, stop, size):
                self._sort(room, slice(begin, min(begin + size, stop)), start)

    def _scatter(self, column: ColumnReader, splitters: np.ndarray, bounds: list[int]) -> None:
        """Write every row into the range of its key; rows of one key stay in order."""
        places = bounds[:-1]
        for rows in self._chunks():
            ranges = np.searchsorted(splitters, rows[0], side="right")
            # numpy sorts short integers by radix, much faster than the keys themselves.
            order = np.argsort(ranges.astype(np.min_scalar_type(len(places))), kind="stable")
            cuts = np.cumsum(np.bincount(ranges, minlength=len(places)))
            pieces = [np.split(values[order], cuts[:-1]) for values in rows]
            for number, piece in enumerate(zip(*pieces, strict=True)):
                if piece[0].size:
                    for place, values in enumerate(piece):
                        column.overwrite(place * bounds[-1] + places[number], values)
                    places[number] += piece[0].size

    def _sort(self, column: ColumnReader, rows: slice, first: int) -> None:
        """Sort rows of the file; a separate function, so that memory holds one range at a time."""
        num = column.num_rows // self._columns
        starts = [place * num for place in range(self._columns)]
        columns_CH = np.stack(
            [column.read(slice(start + rows.start, start + rows.stop)) for start in starts]
        )
        self._arrange(columns_CH, first)
        for start, values in zip(starts, columns_CH, strict=True):
            column.overwrite(start + rows.start, values)

    def _chunks(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the unsorted columns of consecutive events, chunk by chunk."""
        for own, src, dst in endpoints_of(self.stream):
            events = np.arange(own.start, own.stop)
            if self._keep is not None:
                kept = self._keep[own]
                events, src, dst = events[kept], src[kept], dst[kept]
            yield self._rows(events, src, dst)

    @property
    def _most_rows(self) -> int:
        kept = self.stream.num_events if self._keep is None else int(np.count_nonzero(self._keep))
        return self._rows_an_event * kept


class HalfEdges(SortedIndex):
    """Half-edges of a stream: keys ``row * num_events + event_id``, ascending.

    A half-edge is an event as seen from one of its endpoints; a self-loop has one. The row is the
    node, or, if that would overflow int64, its rank among the nodes that occur.

    Attributes:
        present_R: sorted nodes that occur, if rows are ranks among them; None if a row is the
            node.

    Raises:
        DataError: more rows x events than int64 can number.
    """

    what, prefix = "adjacency", ADJACENCY
    _rows_an_event = 2
    _sort_bytes = INT.itemsize

    def __init__(self, stream: EventStream, keep: np.ndarray | None = None) -> None:
        super().__init__(stream, keep)
        self.present_R: np.ndarray | None = None
        if stream.num_nodes * stream.num_events < _INT64_LIMIT:
            return
        chunks = (np.union1d(src, dst) for _, src, dst in endpoints_of(stream))
        present_R: np.ndarray = reduce(np.union1d, chunks)
        if present_R.size * stream.num_events >= _INT64_LIMIT:
            raise DataError(
                f"{stream.name}: {present_R.size} nodes x {stream.num_events} events is beyond the "
                f"2^63 that the adjacency can index"
            )
        self.present_R = present_R

    def _rows(self, events: np.ndarray, src: np.ndarray, dst: np.ndarray) -> tuple[np.ndarray, ...]:
        twice = src != dst
        keys = np.concatenate([src, dst[twice]])
        if self.present_R is not None:
            keys = np.searchsorted(self.present_R, keys)
        keys *= self.stream.num_events
        keys += np.concatenate([events, events[twice]])
        return (keys,)

    def _arrange(self, columns_CH: np.ndarray, first: int) -> None:
        columns_CH[0].sort()  # keys are unique, so the sort need not be stable


class SortedPairs(SortedIndex):
    """Events of a stream sorted by pair, from source to destination.

    The first column holds the key of each event's pair, ascending, with the events of one pair in
    time order. The second column holds composite keys, as in `EventGroups`.

    Attributes:
        keys: numbering of the pairs.

    Raises:
        DataError: more nodes or events than int64 can number.
    """

    what, prefix = "pairs", PAIRS
    _columns = 2
    _sort_bytes = 6 * INT.itemsize  # key, event, order and sorted copies

    def __init__(self, stream: EventStream, keep: np.ndarray | None = None) -> None:
        super().__init__(stream, keep)
        self.keys = PairKeys(stream, *(tensor_of(ends, "cpu") for ends in (stream.src, stream.dst)))
        check_num_events(stream.num_events, stream.name)

    def _rows(self, events: np.ndarray, src: np.ndarray, dst: np.ndarray) -> tuple[np.ndarray, ...]:
        keys = self.keys.ordered(torch.from_numpy(src), torch.from_numpy(dst))
        return keys.numpy(), events

    def _arrange(self, columns_CH: np.ndarray, first: int) -> None:
        keys, events = columns_CH
        order = np.argsort(keys, kind="stable")
        keys[:], events[:] = keys[order], events[order]
        events += (first + np.searchsorted(keys, keys)) * self.stream.num_events


def endpoints_of(stream: EventStream) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield chunks of events, their sources and destinations; release pages after reading."""
    for start in range(0, stream.num_events, CHUNK_EVENTS):
        own = slice(start, min(start + CHUNK_EVENTS, stream.num_events))
        src, dst = (np.ascontiguousarray(column[own], INT) for column in (stream.src, stream.dst))
        yield own, src, dst
        forget_pages(stream.src)
        forget_pages(stream.dst)
