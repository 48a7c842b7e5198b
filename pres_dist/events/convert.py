"""Exact conversion of Arrow columns to numpy: integers are never rounded.

The conversions take a column of n values, its name for errors, and ``locate``, which
converts a row of the column to the place to show the user.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pres_dist.errors import DataError
from pres_dist.events.chunk import Locate

# 30 digits before and 20 after the point; times a factor of 25 digits makes 76, the limit.
EXACT = pa.decimal256(50, 20)
FACTOR_DIGITS = 25

# The characters that str.strip removes, and two invisible characters of zero width.
WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
)
"""Characters that are stripped from both ends of every value that is read."""
_MANTISSA_BITS = {16: 11, 32: 24, 64: 53}


def to_integers(
    column: pa.Array,
    what: str,
    locate: Locate,
    *,
    allowed: str = "an integer",
    factor: Decimal | None = None,
    hint: str = "",
) -> np.ndarray:
    """Return ``column`` times ``factor`` as [n] int64; raise DataError unless it is whole.

    Accepts integers, floating-point numbers (in their shortest decimal form), decimals
    and texts such as ``12``, ``12.0`` and ``1.2e1``. Errors for numbers that are not whole
    end in ``hint``.
    """
    column = present(column, what, locate)
    kind = column.type
    if not (is_text(kind) or pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind)):
        raise DataError(f"{locate(0)}: {what} must be {allowed}, got a column of {kind}")

    def convert(part: pa.Array) -> pa.Array:
        if factor is None:
            return _whole(part)
        places = max(0, -int(factor.as_tuple().exponent))
        scale = pa.scalar(factor, pa.decimal256(FACTOR_DIGITS, places))
        return pc.multiply(_exact(part), scale).cast(pa.int64())

    try:
        return as_numpy(convert(column))
    except pa.ArrowInvalid:
        row = first_bad(column, convert)
        number = as_decimal(_texts(column)[row].as_py())
        if number is None or not number.is_finite():
            reason = f"must be {allowed}"
        elif abs(number) < 10**30 and (exact := number * (factor or 1)) != math.floor(exact):
            scaled = f" after multiplying by {factor:f}" if factor else ""
            reason = f"must be a whole number{scaled}{hint}"
        else:
            reason = f"must be {allowed} in the range of int64"
        raise DataError(f"{locate(row)}: {what} {reason}, got {shown_value(column, row)}") from None


def to_floats(column: pa.Array, what: str, locate: Locate) -> np.ndarray:
    """Return [n] finite float32 from numbers, booleans, and texts of either."""
    column = booleans_as_numbers(present(column, what, locate))
    if pt.is_decimal(column.type):
        column = column.cast(pa.float64())

    def convert(part: pa.Array) -> pa.Array:
        return part.cast(pa.float32(), safe=False)

    try:
        floats = as_numpy(convert(column))
    except pa.ArrowNotImplementedError:
        raise DataError(
            f"{locate(0)}: {what} must be numbers, got a column of {column.type}"
        ) from None
    except pa.ArrowInvalid:
        row = first_bad(column, convert)
        got = shown_value(column, row)
        hint = " with a decimal point" if re.fullmatch(r"'-?[0-9]*,[0-9]+'", got) else ""
        raise DataError(f"{locate(row)}: {what} must be a finite number{hint}, got {got}") from None
    finite = np.isfinite(floats)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(
            f"{locate(row)}: {what} must be a finite float32 number, got {shown_value(column, row)}"
        )
    return floats


def to_vectors(column: pa.Array, width: int, what: str, locate: Locate) -> np.ndarray:
    """Return [n, width] finite float32 from lists of ``width`` numbers, or from single numbers."""
    column = present(column, what, locate)
    if not is_list(column.type):
        return to_floats(column, what, locate)[:, None]
    if not width:
        raise DataError(f"{locate(0)}: {what} must be lists of at least one number, got none")
    lengths = pc.list_value_length(column)
    if pc.any(other := pc.not_equal(lengths, width)).as_py():
        row = first_true(other)
        raise DataError(
            f"{locate(row)}: {what} must be lists of one length, {width} as the first, "
            f"got {lengths[row]}"
        )
    numbers = to_floats(column.flatten(), what, lambda place: locate(place // width))
    return numbers.reshape(-1, width)


def is_list(kind: pa.DataType) -> bool:
    """Return True if a type is a list type, fixed in size or not."""
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def booleans_as_numbers(column: pa.Array) -> pa.Array:
    """Return the column with 1 and 0 for true and false, also if pandas wrote them as texts."""
    if pt.is_boolean(column.type):
        return column.cast(pa.uint8())
    if not pt.is_large_string(column.type):
        return column
    characters = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    if not (characters | 0x20 == ord("e")).any():  # both words contain an e, few numbers do
        return column
    lower = pc.utf8_lower(column)
    truth = pc.if_else(pc.equal(lower, "true"), "1", column)
    return pc.if_else(pc.equal(lower, "false"), "0", truth)


def present(column: pa.Array, what: str, locate: Locate) -> pa.Array:
    """Return the column decoded and trimmed by `plain`; raise DataError if a value is missing."""
    column = plain(column)
    if column.null_count:
        raise DataError(f"{locate(first_true(column.is_null()))}: {what} is missing")
    return column


def plain(column: pa.Array) -> pa.Array:
    """Return the column without dictionaries, and its texts without white space around them."""
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    return trimmed(column.cast(pa.large_string())) if is_text(column.type) else column


def trimmed(texts: pa.Array) -> pa.Array:
    """Strip white space around large_string texts; return the same array if there is none."""
    content = texts.buffers()[2]
    characters = np.frombuffer(content or b"", np.uint8)
    # Trimming takes longer than parsing numbers, so first check whether there can be any.
    if not characters.size or (characters.min() > 0x20 and characters.max() < 0x7F):
        return texts
    return pc.utf8_trim(texts, WHITE_SPACE)


def is_text(kind: pa.DataType) -> bool:
    """Return True if a type is one of Arrow's text types."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def first_true(mask: pa.Array) -> int:
    """Return the first true row of a mask; there must be one."""
    return int(mask.index(True).as_py())


def first_rounded(column: pa.Array) -> tuple[int, int] | None:
    """Return the first row whose float may stand for several integers, and b of its bound 2**b.

    A 64-bit float is rounded from 2**53 on, a 32-bit float from 2**24 on. Return None if no
    row is rounded.
    """
    if not pt.is_floating(column.type):
        return None
    bits = _MANTISSA_BITS[column.type.bit_width]
    large = pc.fill_null(pc.greater_equal(pc.abs(column.cast(pa.float64())), float(2**bits)), False)
    return (first_true(large), bits) if pc.any(large).as_py() else None


def as_numpy(column: pa.Array) -> np.ndarray:
    """Return a column without missing values as an array."""
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values


def _whole(column: pa.Array) -> pa.Array:
    """Return int64 for whole numbers in any form; raise ``ArrowInvalid`` for other values."""
    if pt.is_integer(column.type):
        return column.cast(pa.int64())
    try:
        plain = column if pt.is_floating(column.type) else _texts(column)
        # Arrow reads 0x10 as 16; the slow path refuses it.
        if plain is column or not pc.any(pc.match_substring(plain, "x")).as_py():
            return plain.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    return _exact(column).cast(pa.int64())


def _exact(column: pa.Array) -> pa.Array:
    """Return decimals without rounding; raise ``ArrowInvalid`` for values that are no numbers."""
    if pt.is_integer(column.type) or pt.is_decimal(column.type):
        return column.cast(EXACT)
    return _texts(column).cast(EXACT)


def _texts(numbers: pa.Array) -> pa.Array:
    """Return numbers as texts, written as in a CSV file."""
    return numbers.cast(pa.large_string())


def as_decimal(text: str) -> Decimal | None:
    """Parse a number exactly; return None for other texts, and for digits of other scripts."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if text.isascii() and "_" not in text and text == text.strip() else None


def first_bad(column: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> int:
    """Return the first row that ``convert`` refuses, given that it refuses the column."""
    # Arrow names no row; halving finds it in few conversions.
    start, end = 0, len(column)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            convert(column.slice(start, middle - start))
            start = middle
        except pa.ArrowInvalid:
            end = middle
    return start


def shown_value(column: pa.Array, row: int) -> str:
    """Return a value for an error, cut to 60 characters."""
    value = column[row].as_py()
    return repr(value if len(str(value)) <= 60 else f"{str(value)[:57]}...")
