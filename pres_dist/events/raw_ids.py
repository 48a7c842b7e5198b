"""Parsing of the user's own ids, with the same rules for all inputs.

An id is an integer or a text. White space around a text is removed, and a text of white space
only is a missing id. A text counts as an integer only if it is written as one: ``7`` does;
``007``, ``7.0``, ``1e3`` and ``+7`` are texts, each a different id. Numbers are never rounded:
floating-point ids must be whole and below 2**53.

`id_column` reads a column of ids, `parse_id` a single one; `PairMap` numbers them.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pres_dist.errors import DataError
from pres_dist.events.chunk import Locate
from pres_dist.events.convert import (
    WHITE_SPACE,
    first_bad,
    first_rounded,
    first_true,
    is_text,
    shown_value,
    trimmed,
)

RawId = str | int

_INTEGER = re.compile(r"(0|-?[1-9][0-9]{0,18})")
_WIDEST = pa.decimal256(76, 0)


@dataclass
class Trimmed:
    """Number of ids that had white space around them, and the place of the first."""

    num_ids: int = 0
    first: str = ""


class PairMap:
    """Map from ids to 0, 1, 2, ... in the order of their first appearance, all in memory.

    Args:
        separate: True if sources and destinations are numbered independently.
        texts: True if ids are texts, False if they are int64.
    """

    def __init__(self, separate: bool, texts: bool = True) -> None:
        self.texts = texts
        self._sources: dict[RawId, int] = {}
        self._destinations: dict[RawId, int] = {} if separate else self._sources

    @classmethod
    def known(cls, raw_ids: pa.ChunkedArray, num_sources: int | None) -> PairMap:
        """Return a map that continues a numbering: [N] ids, row = node, sources first.

        `num_sources` is None if there is one id space.
        """
        pairs = cls(num_sources is not None, not pt.is_integer(raw_ids.type))
        _number(pairs._sources, raw_ids[:num_sources].combine_chunks())
        if num_sources is not None:
            _number(pairs._destinations, raw_ids[num_sources:].combine_chunks())
        return pairs

    @property
    def num_sources(self) -> int:
        """Number of sources so far, or of all nodes if there is one id space."""
        return len(self._sources)

    def number(self, src: pa.Array, dst: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return the [n] int64 numbers of [n] source ids and of [n] destination ids of one type."""
        if self._sources is not self._destinations:
            return _number(self._sources, src), _number(self._destinations, dst)
        # Number event by event, so that the numbers do not depend on the batch size.
        order = np.arange(2 * len(src)).reshape(2, -1).T.ravel()
        numbers = _number(self._sources, pa.concat_arrays([src, dst]).take(pa.array(order)))
        return numbers[0::2], numbers[1::2]

    def raw_ids(self) -> pa.ChunkedArray:
        """Return the [N] raw ids, row = node; sources come first if there are two id spaces."""
        kind = pa.large_string() if self.texts else pa.int64()
        maps = [self._sources]
        if self._destinations is not self._sources:
            maps.append(self._destinations)
        return pa.chunked_array([pa.array(list(numbers), kind) for numbers in maps])


def _number(known: dict[RawId, int], raw_ids: pa.Array) -> np.ndarray:
    """Return the [n] int64 numbers of [n] raw ids; new ids get the next numbers."""
    # Python looks up each distinct id of a batch once.
    encoded = raw_ids.dictionary_encode()
    numbers = [known.setdefault(raw, len(known)) for raw in encoded.dictionary.to_pylist()]
    return np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy()]


def parse_id(value: object, where: str) -> RawId:
    """Parse one id from JSON, the command line or Python.

    Texts stay texts, because it depends on the stream whether a text stands for an integer
    (`canonical_integer`).

    Raises:
        DataError: `value`, named `where`, is missing, or is no text, integer, whole float below
            2**53, or UUID.
    """
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"{where} must be valid Unicode text, got {value!a}") from None
        text = value.strip(WHITE_SPACE)
        if not text:
            raise DataError(f"{where} is missing, got {value!r}")
        return text
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, (float, np.floating)) and value == np.floor(value):
        bits = np.finfo(value).nmant + 1
        if abs(value) < 2**bits:
            return int(value)
        raise DataError(
            f"{where} must be below 2**{bits} where it is a floating-point number, beyond which "
            f"one may stand for several ids, got {value!r}"
        )
    raise DataError(f"{where} must be an integer or a text, got {value!r}")


def canonical_integer(raw: RawId) -> int | None:
    """Return the integer that an id is or is written as; None for other texts and beyond int64.

    ``7`` and ``-7`` are integers; ``007``, ``+7``, ``7.0``, ``1_0`` and digits of other scripts
    are not.
    """
    if isinstance(raw, str):
        raw = int(raw) if _INTEGER.fullmatch(raw) else 2**63
    return raw if -(2**63) <= raw < 2**63 else None


def id_column(
    column: pa.Array,
    what: str,
    locate: Locate,
    tidied: Trimmed | None = None,
    missing: bool = False,
) -> pa.Array:
    """Return the ids of a column as int64, or as large_string if one is a text.

    If an integer exceeds int64, all integers become texts, written in decimal.

    Args:
        column: integers, whole floats, decimals, texts or UUIDs, or a dictionary of these.
        what: name of the column, for errors.
        locate: function from a row to its place.
        tidied: counter to update.
        missing: leave missing ids null instead of raising an error.

    Raises:
        DataError: an id is missing, a float is not whole or is 2**53 or more, or the column has
            another type.
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if is_text(kind):
        ids = _tidy(column.cast(pa.large_string()), locate, tidied)
    elif getattr(kind, "extension_name", "") == "arrow.uuid":
        encoded = column.storage.dictionary_encode()
        texts = [str(uuid.UUID(bytes=one)) for one in encoded.dictionary.to_pylist()]
        ids = pa.array(texts, pa.large_string()).take(encoded.indices)
    elif pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind):
        ids = _integers(column, what, locate)
    elif pt.is_null(kind):
        ids = column.cast(pa.int64())
    else:
        hint = " (a binary id can be written as a text)" if "binary" in str(kind) else ""
        raise DataError(
            f"{locate(0)}: {what} must be integers or texts, got a column of {kind}{hint}"
        )
    if ids.null_count and not missing:
        raise DataError(f"{locate(first_true(ids.is_null()))}: {what} is missing")
    return ids


def integers_of(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return [n] int64 values and an [n] bool mask of the integer ids (`canonical_integer`).

    Args:
        ids: ids as `id_column` returns them; null is not an integer.
    """
    if pt.is_integer(ids.type):
        values = pc.fill_null(ids, 0).to_numpy(zero_copy_only=False)
        return values, ids.is_valid().to_numpy(zero_copy_only=False)
    try:
        values = pc.fill_null(ids, "x").cast(pa.int64())  # fails fast if there is another text
    except pa.ArrowInvalid:
        written = pc.fill_null(pc.match_substring_regex(ids, f"^{_INTEGER.pattern}$"), False)
        wide = pc.if_else(written, ids, "0").cast(_WIDEST)
        fits = pc.and_(
            pc.greater_equal(wide, pa.scalar(-(2**63), _WIDEST)),
            pc.less(wide, pa.scalar(2**63, _WIDEST)),
        )
        is_integer = pc.and_(written, fits)
        values = pc.if_else(is_integer, ids, "0").cast(pa.int64())
    else:
        # Arrow reads 007, 0x10 and -0 too. Only 0 itself may begin with a zero.
        plain_zero = pc.or_(pc.invert(pc.starts_with(ids, "0")), pc.equal(ids, "0"))
        is_integer = pc.and_(plain_zero, pc.invert(pc.starts_with(ids, "-0")))
    return (
        values.to_numpy(zero_copy_only=False),
        is_integer.to_numpy(zero_copy_only=False).astype(bool),
    )


def _tidy(texts: pa.Array, locate: Locate, tidied: Trimmed | None) -> pa.Array:
    """Return texts without white space around them; null if nothing is left."""
    ids = trimmed(texts)
    if ids is not texts and tidied is not None:
        changed = pc.fill_null(pc.not_equal(ids, texts), False)
        count = pc.sum(changed).as_py() or 0
        if count and not tidied.num_ids:
            tidied.first = locate(first_true(changed))
        tidied.num_ids += count
    empty = pc.equal(ids, "")
    return pc.if_else(empty, None, ids) if pc.any(empty).as_py() else ids


def _integers(column: pa.Array, what: str, locate: Locate) -> pa.Array:
    """Return int64, or decimal texts if one exceeds int64; NaN is a missing id."""
    if pt.is_floating(column.type):
        if rounded := first_rounded(column):
            row, bits = rounded
            raise DataError(
                f"{locate(row)}: {what} holds floating-point numbers of 2**{bits} and more, which "
                f"may each stand for several ids; give integers or texts, got "
                f"{shown_value(column, row)}"
            )
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)

    def whole(part: pa.Array) -> pa.Array:
        return part.cast(_WIDEST if pt.is_decimal(part.type) else pa.int64())

    try:
        if not pt.is_integer(column.type):
            column = whole(column)
    except pa.ArrowInvalid:
        row = first_bad(column, whole)
        raise DataError(
            f"{locate(row)}: {what} must be a whole number, got {shown_value(column, row)}"
        ) from None
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column.cast(pa.large_string())
