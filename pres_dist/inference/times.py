"""Parse and format times in the user's notation, and limit how far ahead an event may be."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa

from pres_dist.errors import ConfigError, DataError
from pres_dist.events.chunk import MAX_SPAN, MAX_TIME, Locate
from pres_dist.events.stream import EventStream
from pres_dist.events.times import TimeRules, column_of, read_times

MOST_SPANS = 100
"""Default limit on how far a stream may be continued, in multiples of its own length."""
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NANOSECONDS = {
    **{unit: 10**9 // per_second for unit, per_second in _PER_SECOND.items()},
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
_DAY_SECONDS = 86_400
_YEAR_SECONDS = 366 * _DAY_SECONDS
_END_OF_9999 = 253_402_300_800
"""Seconds from 1970 to the start of the year 10000."""

MaxAhead = str | int | timedelta | None
"""Largest allowed gap between the last event and the next; see `latest_allowed`."""


def times_of(stream: EventStream, column: pa.Array, what: str, locate: Locate) -> np.ndarray:
    """Convert a column of numbers, dates or texts to [n] int64 times in the stream's unit.

    Numbers are multiplied by the time scale of the import. Dates count from 1970 in the
    stream's unit, or from the first event if the metadata contain its date.

    Args:
        stream: the stream, which defines unit and scale.
        column: [n] values.
        what: name of the values in error messages.
        locate: returns the location of a row for error messages.

    Raises:
        DataError: a value is not a time, or is a date and the unit of the stream is unknown.
    """
    if not len(column):
        return np.empty(0, np.int64)
    return read_times(column, what, locate, TimeRules.of(stream)).t


def times_of_values(
    stream: EventStream, values: Sequence[Any], what: str, locate: Locate
) -> np.ndarray:
    """Convert Python or JSON values to [n] int64 times, as `times_of` converts a column."""
    if not len(values):
        return np.empty(0, np.int64)
    rules = TimeRules.of(stream)
    if rules.factor is None and set(map(type, values)) == {int}:
        # Fast path for nearly all requests of a service: building an Arrow column would take
        # longer than everything else.
        with suppress(OverflowError):
            return np.array(values, np.int64)
    return read_times(column_of(values, what, locate, rules.allowed), what, locate, rules).t


def time_of(stream: EventStream, value: object, what: str) -> int:
    """Convert one number, text or date to a time; raise DataError as in `times_of`."""
    return int(times_of_values(stream, [value], "time", lambda row: what)[0])


def latest_allowed(stream: EventStream, last: int, max_ahead: MaxAhead = "auto") -> int:
    """Return the latest time that the next event of a stream may have.

    Args:
        stream: the known events.
        last: time of the last event so far, which may be later than the stream's.
        max_ahead: largest gap after `last`. `auto` allows 100 times the length of the stream, at
            least a year and until tomorrow, and nothing after the year 9999; if the unit of the
            stream is unknown, it allows any time. `none` or None allows any time. A number is in
            the unit of the imported data. `90d`, `12h`, `30m`, `45s`, `500ms` and a timedelta
            need a known unit.

    Raises:
        ConfigError: `max_ahead` is none of these.
    """
    rules = TimeRules.of(stream)
    first = int(stream.t[0])
    # `latest + 1` must be valid too, as a time and as an age.
    latest = min(MAX_TIME, first + MAX_SPAN)
    if max_ahead is None or max_ahead == "none":
        return latest
    if max_ahead != "auto":
        return min(latest, last + _units(rules, max_ahead))
    if rules.unit is None:
        return latest
    per_second = _PER_SECOND[rules.unit]
    span = int(stream.t[-1]) - first
    tomorrow = int((time.time() + _DAY_SECONDS) * per_second) - rules.origin
    far = last + max(MOST_SPANS * span, _YEAR_SECONDS * per_second)
    latest = min(latest, max(far, tomorrow))
    end_of_9999 = _END_OF_9999 * per_second - 1 - rules.origin
    return min(latest, end_of_9999) if last <= end_of_9999 else latest


def check_ahead(
    stream: EventStream,
    t: np.ndarray,
    last: int,
    what: str,
    locate: Locate,
    max_ahead: MaxAhead = "auto",
) -> None:
    """Raise DataError for the first of [n] times that is too far ahead of a stream.

    Args:
        stream: the known events.
        t: times in the stream's unit.
        what: name of the times in error messages.
        last: time of the last event so far.
        locate: returns the location of a row for error messages.
        max_ahead: as in `latest_allowed`.
    """
    latest = latest_allowed(stream, last, max_ahead)
    if not (t > latest).any():
        return
    row = int(np.argmax(t > latest))
    raise DataError(
        f"{locate(row)}: {what} must be at most {shown(stream, latest)}, the farthest that "
        f"max_ahead {'none' if max_ahead is None else max_ahead} allows after the last event at "
        f"{shown(stream, last)}, got {shown(stream, int(t[row]))}"
    )


def _units(rules: TimeRules, max_ahead: str | int | timedelta) -> int:
    """Convert a duration to units of the stream."""
    wrong = ConfigError(
        "max_ahead must be auto, none, a number >= 0 as times of the stream are written, or where "
        f"their unit is known a duration such as 90d, 12h, 30m, 45s or 500ms, got {max_ahead!r}"
    )
    if isinstance(max_ahead, timedelta):
        nanoseconds = Decimal(max_ahead // timedelta(microseconds=1)) * 1000
    elif isinstance(max_ahead, bool) or not isinstance(max_ahead, (str, int, np.integer)):
        raise wrong
    else:
        found = re.fullmatch(r"\s*([\d.]+)\s*(d|h|m|s|ms|us|ns)?\s*", str(max_ahead), re.ASCII)
        if found is None:
            raise wrong
        try:
            number = Decimal(found[1])
        except InvalidOperation:
            raise wrong from None
        if found[2] is None:
            return int(number * (rules.factor or 1))
        nanoseconds = number * _NANOSECONDS[found[2]]
    if rules.unit is None or nanoseconds < 0:
        raise wrong
    return int(nanoseconds // _NANOSECONDS[rules.unit])


def shown(stream: EventStream, t: int) -> str:
    """Format a time in the user's notation, with its date if the unit of the stream is known."""
    rules = TimeRules.of(stream)
    number = str(t) if rules.factor is None else f"{(Decimal(t) / rules.factor).normalize():f}"
    if rules.unit is None:
        return number
    date: object = np.array(t + rules.origin).astype(f"datetime64[{rules.unit}]")
    return f"{number} ({date})"


def dates(stream: EventStream, t: np.ndarray) -> list[str] | None:
    """Return ISO 8601 texts of [n] times; None if the unit of the stream is unknown."""
    rules = TimeRules.of(stream)
    if rules.unit is None:
        return None
    texts: list[str] = (t + rules.origin).astype(f"datetime64[{rules.unit}]").astype(str).tolist()
    return texts
