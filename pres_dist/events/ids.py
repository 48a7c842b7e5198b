"""Numbering of nodes by the user's own ids, in the order of their first appearance."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pres_dist.errors import DataError
from pres_dist.events.chunk import Locate
from pres_dist.events.convert import shown_value
from pres_dist.events.raw_ids import integers_of


class IdMap:
    """Map from raw ids (texts or integers) to 0, 1, 2, ...; holds every distinct id in memory."""

    def __init__(self, kind: pa.DataType, known: Iterable[str | int] = ()) -> None:
        self._kind = kind
        self._numbers: dict[str | int, int] = {raw: number for number, raw in enumerate(known)}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, raw_ids: pa.Array) -> np.ndarray:
        """Return the [n] int64 numbers of [n] raw ids; new ids get the next numbers."""
        encoded = raw_ids.dictionary_encode()
        known = self._numbers
        numbers = [known.setdefault(raw, len(known)) for raw in encoded.dictionary.to_pylist()]
        return np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy()]

    def raw_ids(self) -> pa.Array:
        """Return the raw ids, row = number."""
        return pa.array(list(self._numbers), self._kind)


class PairMap:
    """Map from source and destination ids to numbers, with one id space or two."""

    def __init__(self, separate: bool, texts: bool = True) -> None:
        self.texts = texts
        """True if ids are texts, False if they are int64."""
        self._kind = pa.large_string() if texts else pa.int64()
        self._sources = IdMap(self._kind)
        self._destinations = IdMap(self._kind) if separate else self._sources

    @classmethod
    def known(cls, raw_ids: pa.ChunkedArray, num_sources: int | None) -> PairMap:
        """Return a map that continues the numbering of a stream.

        Args:
            raw_ids: [N] ids, row = node.
            num_sources: number of sources, which come first, if there are two id spaces;
                else None.
        """
        pairs = cls(num_sources is not None, not pa.types.is_integer(raw_ids.type))
        pairs._sources = IdMap(pairs._kind, raw_ids[:num_sources].to_pylist())
        pairs._destinations = pairs._sources
        if num_sources is not None:
            pairs._destinations = IdMap(pairs._kind, raw_ids[num_sources:].to_pylist())
        return pairs

    @property
    def num_sources(self) -> int:
        """Number of sources so far, or of all nodes if there is one id space."""
        return len(self._sources)

    def number(self, src: pa.Array, dst: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return the [n] int64 numbers of [n] source ids and of [n] destination ids of one type."""
        if self._sources is not self._destinations:
            return self._sources.number(src), self._destinations.number(dst)
        # Number event by event, so that the numbers do not depend on the batch size.
        order = np.arange(2 * len(src)).reshape(2, -1).T.ravel()
        numbers = self._sources.number(pa.concat_arrays([src, dst]).take(pa.array(order)))
        return numbers[0::2], numbers[1::2]

    def raw_ids(self) -> pa.ChunkedArray:
        """Return the [N] raw ids, row = node; sources come first if there are two id spaces."""
        if self._sources is self._destinations:
            return pa.chunked_array([self._sources.raw_ids()])
        return pa.chunked_array([self._sources.raw_ids(), self._destinations.raw_ids()])


def raw_column(ids: pa.Array, what: str, locate: Locate, integers: bool) -> pa.Array:
    """Convert ids from `id_column` to the type that a map holds: int64 or texts.

    Raises:
        DataError: the map holds integers, and one of the ids is not an int64 integer.
    """
    if not integers:
        return ids.cast(pa.large_string())
    values, fits = integers_of(ids)
    if not fits.all():
        row = int(np.argmin(fits))
        raise DataError(
            f"{locate(row)}: {what} must be an integer in the range of int64, as other ids of the "
            f"stream, got {shown_value(ids, row)}"
        )
    return pa.array(values)
