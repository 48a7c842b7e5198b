"""Exact conversion of Arrow columns of dates to times: an int64 or an error, never a rounding."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pres_dist.errors import DataError
from pres_dist.events.chunk import Locate
from pres_dist.events.convert import (
    as_decimal,
    as_numpy,
    first_bad,
    present,
    shown_value,
    to_text,
)


def to_times(column: pa.Array, what: str, locate: Locate, unit: str) -> np.ndarray:
    """[n] int64 epoch ``unit``s of timestamps, dates or ISO 8601 texts."""
    column = present(column, what, locate)
    if pt.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    kind = column.type
    if not (pt.is_timestamp(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
        raise DataError(f"{what} must be numbers or timestamps, got a column of {kind}")

    def convert(part: pa.Array) -> pa.Array:
        return part.cast(pa.timestamp(unit, zone)).cast(pa.int64())

    zone = _zone(column, unit)
    try:
        return as_numpy(convert(column))
    except pa.ArrowInvalid:
        row = first_bad(column, convert)
        raise DataError(
            f"{locate(row)}: {what} must be an ISO 8601 time with at most the digits of "
            f"--time-unit {unit}, all with a zone or all without, got {shown_value(column, row)}"
        ) from None


def is_timestamp(column: pa.Array) -> bool:
    """Whether the column holds times of day and not numbers, judged by its first value."""
    if pt.is_timestamp(column.type) or pt.is_date(column.type):
        return True
    if pt.is_integer(column.type) or pt.is_floating(column.type) or pt.is_decimal(column.type):
        return False
    first = to_text(column.slice(0, 1), "time")[0].as_py()
    return bool(first) and as_decimal(first) is None and first[:4].isdigit()


def _zone(column: pa.Array, unit: str) -> str | None:
    """The time zone to read with: texts parse either only with one or only without."""
    if pt.is_timestamp(column.type):
        zone: str | None = column.type.tz
        return zone
    try:
        column.slice(0, 1).cast(pa.timestamp(unit))
    except pa.ArrowInvalid:
        return "UTC"
    return None
