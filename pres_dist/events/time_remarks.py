"""Notes on imported times that look like something else than they were read as."""

from __future__ import annotations

import numpy as np

from pres_dist.events.stream import EventStream

# Ranges of times since 1970 for the years 1973 to 2286, by unit.
_SINCE_1970 = {
    "seconds": (10**8, 10**10),
    "milliseconds": (10**11, 10**13),
    "microseconds": (10**14, 10**16),
    "nanoseconds": (10**17, 10**19),
}
_PER_YEAR = {"s": 31_556_952, "ms": 31_556_952 * 10**3, "us": 31_556_952 * 10**6}


def time_remarks(stream: EventStream) -> list[str]:
    """Return notes on times that look like dates, mixed units or another unit; often none."""
    known, first, last = stream.metadata, int(stream.t[0]), int(stream.t[-1])
    notes = []
    if not {"times_have_zone", "time_scale"} & known.keys() and _are_dates(stream, first):
        notes.append(
            f"times look like dates and are read as plain numbers ({first:,}): a date is written "
            "2024-01-31 or 2024-01-31T10:00:00Z"
        )
    units = [
        name
        for time in (first, last)
        for name, (low, high) in _SINCE_1970.items()
        if low <= time < high
    ]
    if len(units) == 2 and units[0] != units[1]:
        middle = int(np.searchsorted(stream.t, first * 50))
        # Times of two units form two groups that are far apart.
        if middle < stream.num_events and stream.t[middle] // stream.t[middle - 1] >= 100:
            notes.append(
                f"times from {first:,} to {last:,} look like {units[0]} and {units[1]} since 1970 "
                "in one column"
            )
    unit = known.get("time_unit")
    if unit in _PER_YEAR and "first_event" not in known:
        year = 1970 + last // _PER_YEAR[unit]
        if year > 9999:
            notes.append(
                f"the last time, {last:,}, is in the year {year:,} as {unit}: is it of another "
                "unit?"
            )
    return notes


def _are_dates(stream: EventStream, first: int) -> bool:
    """Return True if all times look like dates written as 20240131 or 20240131100000."""
    day = 10**6 if first >= 10**13 else 1
    for chunk in stream.chunks():
        days, clock = np.divmod(chunk.t, day)
        months = days // 100 % 100
        dates = (days >= 1900_01_01) & (days <= 2100_12_31) & (months >= 1) & (months <= 12)
        dates &= (days % 100 >= 1) & (days % 100 <= 31)
        times_of_day = (clock // 10_000 < 24) & (clock // 100 % 100 < 60) & (clock % 100 < 60)
        if not (dates & times_of_day).all():
            return False
    return True
