"""Times read by the rules of a stream, and how far ahead of it an event may be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pres_dist.errors import ConfigError, DataError
from pres_dist.events.stream import EventStream
from pres_dist.inference.times import (
    check_ahead,
    latest_allowed,
    shown,
    time_of,
    times_of,
    times_of_values,
)

MAY = 4_870_195_200_000
"""2124-05-01 in ms: after today, until when an event is never too far ahead."""
DAY = 86_400_000


def stream(first: int = MAY, last: int = MAY + 30 * DAY, **metadata: Any) -> EventStream:
    return EventStream.from_arrays([0, 1], [2, 3], [first, last], name="s", metadata=metadata)


def test_numbers_count_as_the_import_counted_them() -> None:
    tens = stream(1000, 2000, time_scale="10")
    assert time_of(tens, "140.5", "--at") == time_of(tens, 140.5, "at") == 1405
    assert time_of(tens, np.int64(140), "at") == 1400
    assert times_of_values(tens, [1, 2.5], "t", str).tolist() == [10, 25]
    assert times_of(tens, pa.array(["7", "8.1"]), "t", str).tolist() == [70, 81]
    assert shown(tens, 1405) == "140.5"
    with pytest.raises(DataError, match=r"at: time must be a whole number after multiplying by 10"):
        time_of(tens, 0.05, "at")


def test_dates_of_a_stream_that_counts_from_its_first_event() -> None:
    flights = stream(0, 5000, time_unit="s", first_event="2013-01-01T05:00Z")
    assert time_of(flights, datetime(2013, 1, 1, 6), "at") == 3600
    assert time_of(flights, "2013-01-01 06:00:00 UTC", "at") == 3600
    assert shown(flights, 3600) == "3600 (2013-01-01T06:00:00)"


@pytest.mark.parametrize(
    ("metadata", "max_ahead", "ahead"),
    [
        ({"time_unit": "ms"}, "auto", 3000 * DAY),
        ({"time_unit": "ms"}, "90d", 90 * DAY),
        ({"time_unit": "ms"}, "1.5h", 5_400_000),
        ({"time_unit": "ms"}, "500ms", 500),
        ({"time_unit": "ms"}, timedelta(days=2), 2 * DAY),
        ({"time_unit": "ms"}, "7", 7),
        ({"time_unit": "ms"}, 7, 7),
        ({"time_unit": "ms", "time_scale": "1000"}, 7, 7000),
        ({}, 7, 7),
    ],
)
def test_the_latest_time_allowed(metadata: dict[str, Any], max_ahead: Any, ahead: int) -> None:
    known = stream(**metadata)
    last = int(known.t[-1])
    assert latest_allowed(known, last, max_ahead) == last + ahead
    check_ahead(known, np.array([last, last + ahead]), last, "t", str, max_ahead)
    with pytest.raises(DataError, match=r"1: t must be at most \d+.* max_ahead .*, got \d+"):
        check_ahead(known, np.array([last, last + ahead + 1]), last, "t", str, max_ahead)


def test_any_time_where_the_unit_is_unknown_or_none_is_asked() -> None:
    for known, max_ahead in ((stream(), "auto"), (stream(time_unit="ms"), "none")):
        assert latest_allowed(known, MAY, max_ahead) == 2**63 - 2
    old = stream(-(2**62), 0)
    assert latest_allowed(old, 0) == 2**62 - 2  # an age one unit later is still an int64


def test_a_short_stream_may_be_continued_a_year_later_and_none_after_the_year_9999() -> None:
    assert latest_allowed(stream(MAY, MAY + 9, time_unit="ms"), MAY + 9) == MAY + 9 + 366 * DAY
    ages = stream(-(2**60), MAY, time_unit="ms")
    assert shown(ages, latest_allowed(ages, MAY)).endswith("(9999-12-31T23:59:59.999)")


@pytest.mark.parametrize(
    ("metadata", "max_ahead"),
    [
        ({"time_unit": "ms"}, "soon"),
        ({"time_unit": "ms"}, "-1d"),
        ({"time_unit": "ms"}, "1.1.1d"),
        ({"time_unit": "ms"}, True),
        ({"time_unit": "ms"}, timedelta(-1)),
        ({}, "90d"),
        ({}, -1),
        ({}, 2.5),
    ],
)
def test_what_max_ahead_may_be(metadata: dict[str, Any], max_ahead: Any) -> None:
    with pytest.raises(ConfigError, match="max_ahead must be auto, none, a number"):
        latest_allowed(stream(**metadata), MAY, max_ahead)
