"""Numbering nodes by the user's own ids, in the order of their first appearance."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pres_dist.errors import DataError
from pres_dist.events.chunk import Locate
from pres_dist.events.convert import to_integers, to_text


class IdMap:
    """From raw ids (texts or integers) to 0, 1, 2, ...; holds every distinct id in memory."""

    def __init__(self, known: Iterable[str | int] = ()) -> None:
        self._numbers: dict[str | int, int] = {raw: number for number, raw in enumerate(known)}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, raw_ids: pa.Array) -> np.ndarray:
        """[n] int64 numbers of [n] raw ids; ids not seen before get the next ones."""
        encoded = raw_ids.dictionary_encode()
        known = self._numbers
        numbers = [known.setdefault(raw, len(known)) for raw in encoded.dictionary.to_pylist()]
        return np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy()]

    def raw_ids(self) -> pa.Array:
        """The raw ids, row = number."""
        return pa.array(list(self._numbers))


class PairMap:
    """Numbers sources and destinations: as one id space, or as two."""

    def __init__(self, separate: bool) -> None:
        self._sources = IdMap()
        self._destinations = IdMap() if separate else self._sources
        self.texts: bool | None = None
        """Whether ids are texts; None while no id has been seen."""

    @classmethod
    def known(cls, raw_ids: pa.ChunkedArray, num_sources: int | None) -> PairMap:
        """The numbers that a stream has given, to be gone on with.

        Args:
            raw_ids: [N] ids, row = node.
            num_sources: those of sources come first where there are two id spaces; else None.
        """
        pairs = cls(num_sources is not None)
        pairs.texts = not pa.types.is_integer(raw_ids.type)
        pairs._sources = IdMap(raw_ids[:num_sources].to_pylist())
        pairs._destinations = pairs._sources
        if num_sources is not None:
            pairs._destinations = IdMap(raw_ids[num_sources:].to_pylist())
        return pairs

    @property
    def num_sources(self) -> int:
        """Sources so far; all nodes where there is one id space."""
        return len(self._sources)

    def number(self, src: pa.Array, dst: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Two [n] int64 of two [n] columns of raw ids of the same type."""
        if self._sources is not self._destinations:
            return self._sources.number(src), self._destinations.number(dst)
        # Event by event, so that the numbers do not depend on the size of the batches.
        order = np.arange(2 * len(src)).reshape(2, -1).T.ravel()
        numbers = self._sources.number(pa.concat_arrays([src, dst]).take(pa.array(order)))
        return numbers[0::2], numbers[1::2]

    def raw_ids(self) -> pa.ChunkedArray:
        """[N] raw ids, row = node: sources first where there are two id spaces."""
        if self._sources is self._destinations:
            return pa.chunked_array([self._sources.raw_ids()])
        return pa.chunked_array([self._sources.raw_ids(), self._destinations.raw_ids()])


def raw_column(column: pa.Array, what: str, locate: Locate, integers: bool) -> pa.Array:
    """The raw ids as int64 or as texts; ``DataError`` where one is missing."""
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{locate(row)}: {what} is missing")
    if integers and not pt.is_uint64(column.type):
        return pa.array(to_integers(column, what, locate))
    texts = to_text(column, what)
    empty = np.flatnonzero(pa.compute.equal(texts, "").to_numpy(zero_copy_only=False))
    if len(empty):
        raise DataError(f"{locate(int(empty[0]))}: {what} is missing")
    return texts
