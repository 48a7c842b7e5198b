"""Events of a stream sorted by node pair, in memory, or in a file with bounded memory.

The result is two concatenated columns of equal length. The first holds the key of each event's
pair, ascending, with the events of one pair in time order. The second holds composite keys
``start * num_events + event``, where `start` is the position of the pair's first event. So it is
ascending too, and one binary search finds the end of a pair's events before any event id.

With bounded memory, pairs are divided into ranges at keys chosen from a sample of the events. One
pass counts the events of each range, a second writes them into it, and then each range is sorted
in place.

Shapes: E events, H kept events, G ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from pres_dist.errors import DataError
from pres_dist.events.columns import ColumnReader
from pres_dist.events.storage import INT, PAIRS
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import tensor_of
from pres_dist.sampling.event_groups import PairKeys
from pres_dist.sampling.sorted_keys import (
    MEMORY_BYTES,
    digest_of,
    endpoints_of,
    make_room,
    write_column,
)

_BYTES_AN_EVENT = 6 * INT.itemsize
"""Bytes per event while its range is sorted: key, event, order and sorted copies."""
_SAMPLES_A_RANGE = 64
_INT64_LIMIT = 1 << 63


class SortedPairs:
    """The pairs of a stream's events, from source to destination.

    Args:
        stream: the events.
        keep: [E] bool, False for events to exclude; None keeps all.

    Attributes:
        keys: numbering of the pairs.

    Raises:
        DataError: more nodes or events than int64 can number.
    """

    what, prefix = "pairs", PAIRS

    def __init__(self, stream: EventStream, keep: np.ndarray | None = None) -> None:
        self.stream, self._keep = stream, keep
        self.keys = PairKeys(stream, *(tensor_of(ends, "cpu") for ends in (stream.src, stream.dst)))
        if stream.num_events**2 >= _INT64_LIMIT:
            raise DataError(
                f"{stream.name}: pairs of fewer than 3,037,000,500 events can be indexed, got "
                f"{stream.num_events:,}"
            )

    def digest(self) -> str:
        """Return the SHA-256 of all inputs that determine the columns."""
        return digest_of(self.stream, self._keep)

    def sorted(self) -> np.ndarray:
        """Return both int64 columns, [2 H]."""
        parts = list(self._chunks())
        key_H, event_H = (np.concatenate(column) for column in zip(*parts, strict=True))
        return np.concatenate(self._in_order(key_H, event_H, 0))

    def write(self, file: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        """Write the result of `sorted` as a .npy file.

        Args:
            file: file to replace.
            memory_bytes: bytes of event data to hold at a time.
        """
        most = max(memory_bytes // _BYTES_AN_EVENT, 1)
        if self.stream.num_events <= most:
            write_column(file, self.sorted())
            return
        splitters_G = self._splitters(most)
        bounds = self._bounds(splitters_G)
        num = bounds[-1]
        make_room(file, 2 * num)
        column = ColumnReader(file)
        places = bounds[:-1]
        for keys, events in self._chunks():
            order = np.argsort(keys, kind="stable")
            keys, events = keys[order], events[order]
            cuts = [0, *np.searchsorted(keys, splitters_G), len(keys)]
            for number, (start, stop) in enumerate(pairwise(cuts)):
                if stop > start:
                    column.overwrite(places[number], keys[start:stop])
                    column.overwrite(num + places[number], events[start:stop])
                    places[number] += int(stop - start)
        for start, stop in pairwise(bounds):
            self._sort(column, start, stop, num, most)

    def _sort(self, column: ColumnReader, start: int, stop: int, num: int, most: int) -> None:
        """Sort a range of both columns, and turn events into composite keys."""
        if stop == start:
            return
        # The events of a single pair are already in order.
        if column.one_value([slice(start, stop)]) and stop - start > most:
            for first in range(start, stop, most):
                events = column.read(slice(num + first, num + min(first + most, stop)))
                column.overwrite(num + first, start * self.stream.num_events + events)
            return
        keys = column.read(slice(start, stop))
        events = column.read(slice(num + start, num + stop))
        for offset, sorted_column in zip(
            (0, num), self._in_order(keys, events, start), strict=True
        ):
            column.overwrite(offset + start, sorted_column)

    def _in_order(
        self, keys: np.ndarray, events: np.ndarray, first: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return both columns of some pairs, whose events start at position `first`."""
        order = np.argsort(keys, kind="stable")
        keys, events = keys[order], events[order]
        starts = first + np.searchsorted(keys, keys)
        return keys, starts * self.stream.num_events + events

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield pair keys and ids of consecutive events, chunk by chunk."""
        for own, src, dst in endpoints_of(self.stream):
            events = np.arange(own.start, own.stop)
            if self._keep is not None:
                kept = self._keep[own]
                events, src, dst = events[kept], src[kept], dst[kept]
            keys = self.keys.ordered(torch.from_numpy(src), torch.from_numpy(dst)).numpy()
            yield keys, events

    def _splitters(self, most: int) -> np.ndarray:
        """Return the [G - 1] first keys of ranges with about half of `most` events.

        A pair with very many events becomes a separate range: the key after it splits too.
        """
        step = max(1, most // _SAMPLES_A_RANGE)
        samples = np.sort(np.concatenate([keys[::step].copy() for keys, _ in self._chunks()]))
        chosen = samples[:: max(1, most // (2 * step))][1:]
        repeated = chosen[1:][chosen[1:] == chosen[:-1]]
        return np.unique(np.concatenate([chosen, repeated + 1]))

    def _bounds(self, splitters_G: np.ndarray) -> list[int]:
        """Return the [G + 1] positions where ranges start, and where the last one ends."""
        counts_G = np.zeros(splitters_G.size + 1, dtype=np.int64)
        for keys, _ in self._chunks():
            ranges = np.searchsorted(splitters_G, keys, side="right")
            counts_G += np.bincount(ranges, minlength=counts_G.size)
        return [0, *np.cumsum(counts_G).tolist()]
