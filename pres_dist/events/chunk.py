"""Consecutive events in memory, and the checks that every event must pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pres_dist.errors import DataError
from pres_dist.wording import setting

Locate = Callable[[int], str]
"""Function from the row of an event, counted from 0, to the place to show the user."""

MAX_ID = 2**63 - 2
"""Largest node id: the number of nodes must itself be an int64."""

MIN_TIME, MAX_TIME = -(2**63) + 1, 2**63 - 2
"""Range of times: the smallest int64 means "never", and the last time plus 1 must be int64."""

MAX_SPAN = 2**63 - 2
"""Longest time from the first event to the last: ages one unit later must be int64."""


@dataclass(frozen=True)
class EventChunk:
    """n consecutive events.

    ``src``, ``dst``, ``t`` and ``labels`` are [n] int64, ``edge_features`` is
    [n, d_e] float32.
    """

    src: np.ndarray
    dst: np.ndarray
    t: np.ndarray
    edge_features: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.src)


def event_number(row: int) -> str:
    """Return the place of an event from an array."""
    return f"event {row}"


def _array(values: object, what: str) -> np.ndarray:
    """Return the values as an array; raise ``DataError`` if numpy cannot hold them."""
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise DataError(f"{what} must be an array of numbers: {error}") from None


def as_int64(values: object, what: str) -> np.ndarray:
    """Convert integers of any width to [n] int64; raise ``DataError`` instead of rounding."""
    array = _array(values, what)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise DataError(
            f"{what} must be a one-dimensional array of integers, "
            f"got {array.dtype} of shape {array.shape}"
        )
    if array.dtype.kind == "u" and len(array) and int(array.max()) > 2**63 - 1:
        raise DataError(f"{what} must be below 2**63, got {int(array.max())}")
    return np.ascontiguousarray(array, dtype=np.int64)


def as_float32(values: object, what: str, num_rows: int) -> np.ndarray:
    """Convert numbers to [num_rows, d] float32; raise ``DataError`` for other values or shapes."""
    array = _array(values, what)
    if array.ndim != 2 or array.dtype.kind not in "iufb" or array.shape[1] == 0:
        raise DataError(
            f"{what} must be a two-dimensional array of numbers, "
            f"got {array.dtype} of shape {array.shape}"
        )
    if len(array) != num_rows:
        raise DataError(f"{what} must have {num_rows} rows, got {len(array)}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def check_values(chunk: EventChunk, first_row: int, locate: Locate, feature: str) -> None:
    """Raise DataError for an invalid id or time, or a `feature` that is not finite."""
    check_ids(chunk.src, "src", first_row, locate)
    check_ids(chunk.dst, "dst", first_row, locate)
    check_times(chunk.t, first_row, locate)
    if chunk.edge_features is not None:
        check_finite(chunk.edge_features, feature, first_row, locate)


def check_ids(ids: np.ndarray, what: str, first_row: int, locate: Locate) -> None:
    """Raise DataError unless all ids lie in 0..MAX_ID."""
    if len(ids) and (ids.min() < 0 or ids.max() > MAX_ID):
        row = int(np.flatnonzero((ids < 0) | (ids > MAX_ID))[0])
        raise DataError(
            f"{locate(first_row + row)}: {what} must be an integer >= 0 and <= {MAX_ID}, "
            f"got {ids[row]}"
        )


def check_order(t: np.ndarray, previous: int | None, first_row: int, locate: Locate) -> None:
    """Raise DataError if times decrease, inside the chunk or from the chunk before it."""
    if previous is not None and len(t) and t[0] < previous:
        row, before = 0, previous
    elif len(t) > 1 and (falls := t[1:] < t[:-1]).any():
        row = int(np.argmax(falls)) + 1
        before = int(t[row - 1])
    else:
        return
    raise DataError(
        f"{locate(first_row + row)}: time must not decrease (import with {setting('sort')}, "
        f"or sort the events first), got {t[row]} after {before}"
    )


def check_times(t: np.ndarray, first_row: int, locate: Locate, what: str = "time") -> None:
    """Raise DataError unless all times lie in MIN_TIME..MAX_TIME."""
    if len(t) and (t.min() < MIN_TIME or t.max() > MAX_TIME):
        row = int(np.flatnonzero((t < MIN_TIME) | (t > MAX_TIME))[0])
        raise DataError(
            f"{locate(first_row + row)}: {what} must be above -2**63 and below 2**63 - 1 in the "
            f"stream's unit, got {t[row]}"
        )


def check_span(first: int, last: int) -> None:
    """Raise DataError if ages of events would exceed int64."""
    if last - first > MAX_SPAN:
        raise DataError(f"times must span less than 2**63 - 1, got {first} to {last}")


def check_finite(features: np.ndarray, what: str, first_row: int, locate: Locate) -> None:
    """Raise DataError unless all features are finite float32 numbers."""
    finite = np.isfinite(features)
    if finite.all():
        return
    row, column = (int(index) for index in np.argwhere(~finite)[0])
    raise DataError(
        f"{locate(first_row + row)}: {what} {column} must be a finite float32 number, "
        f"got {features[row, column]}"
    )
