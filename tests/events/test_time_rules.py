"""Times as users and their databases write them: read exactly, or one error."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.errors import DataError
from pres_dist.events.times import TimeRules, column_of, read_times

TEN = 1_706_695_200_000
"""2024-01-31 10:00:00 UTC in ms."""


def read(
    values: Any, unit: str | None = "ms", zoned: bool | None = None, factor: str | None = None
) -> list[int]:
    rules = TimeRules("s", unit, None if factor is None else Decimal(factor), zoned)
    column = values
    if not isinstance(values, pa.Array):
        column = column_of(values, "t", lambda row: f"row {row}", rules.allowed)
    found: list[int] = read_times(column, "t", lambda row: f"row {row}", rules).t.tolist()
    return found


@pytest.mark.parametrize(
    "text",
    [
        *("2024-01-31 10:00:00 UTC", "2024-01-31 10:00:00.000 UTC", "2024-01-31 05:00:00 -0500"),
        *("2024-01-31 10:00:00+00", "2024-01-31 15:30:00+0530", "2024-01-31 10:00:00.000000+00:00"),
        *("20240131T100000Z", "20240131T1000Z", "2024-01-31T10:00Z", "2024-01-31t10:00:00z"),
        *("2024/01/31 10:00:00 GMT", "2024-01-31 10:00:00 +0000 UTC", " 2024-01-31T10:00:00Z "),
        *("2024-01-31 10:00:00,000Z", "2024-01-31 10:00:00 Z"),
    ],
)
def test_zones_as_databases_write_them(text: str) -> None:
    assert read([text]) == [TEN]
    assert read([text], zoned=True) == [TEN]
    with pytest.raises(DataError, match="row 0: t must have no time zone, because those of s"):
        read([text], zoned=False)
    with pytest.raises(DataError, match=r"row 1: t must have a time zone .* the times before it"):
        read([text, "2024-01-31 10:00:00"])
    with pytest.raises(DataError, match="row 0: t must be a whole number: the times of s are num"):
        read([text], unit=None)


@pytest.mark.parametrize("text", ["2024/01/31 10:00", "20240131T100000", "2024-01-31T10"])
def test_dates_without_zone(text: str) -> None:
    assert read([text]) == read([text], zoned=False) == [TEN]
    with pytest.raises(DataError, match="row 0: t must have a time zone"):
        read([text], zoned=True)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 1, 31, 10),
        np.datetime64("2024-01-31T10"),
        np.datetime64("2024-01-31T10:00:00.000000000"),
        pd.Timestamp("2024-01-31 10:00"),
        "2024-01-31 10:00:00",
        TEN,
        float(TEN),
        np.int64(TEN),
        np.float64(TEN),
        np.uint64(TEN),
        Decimal(TEN),
        f"{TEN}.0",
    ],
)
def test_python_values(value: Any) -> None:
    assert read([value]) == read([value] * 2)[:1] == [TEN]


def test_python_days_and_zones() -> None:
    assert read([date(2024, 1, 31)]) == read([np.datetime64("2024-01-31")])
    assert read([np.datetime64("2024-01")]) == read(["2024-01-01"])
    berlin = pd.Timestamp("2024-01-31 11:00", tz="Europe/Berlin")
    assert read([berlin, datetime(2024, 1, 31, 10, tzinfo=timezone.utc)]) == [TEN, TEN]
    assert read([pd.Timestamp("2024-01-31 10:00:00.000000001")], "ns") == [TEN * 10**6 + 1]


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ([True], "row 0: t must be a whole number or an ISO 8601 time, got True"),
        ([np.True_], "row 0: t must be a whole number or an ISO 8601 time"),
        ([1, None], "row 1: t is missing"),
        ([pd.NaT], "row 0: t is missing"),
        ([np.datetime64("NaT")], "row 0: t is missing"),
        ([float("nan")], "row 0: t must be a whole number or an ISO 8601 time, got nan"),
        ([1.5], "row 0: t must be a whole number, got 1.5"),
        ([10**20], "row 0: t must be .* in the range of int64"),
        ([2.0**53], r"row 0: t must be below 2\*\*53 as a floating-point number"),
        ([3j], "row 0: t must be a whole number"),
        ([[1]], "row 0: t must be a whole number"),
        ([timedelta(1)], "row 0: t must be a whole number"),
        ([1, "2024-01-01"], "row 1: t must be a number as the first is"),
        (["2024-01-01", 1], "row 1: t must be a date or text as the first is"),
        (
            [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone.utc)],
            "row 1: t must have no",
        ),
        (
            [pd.Timestamp("2024", tz="UTC"), np.datetime64("2024-01-01")],
            "row 1: t must have a time",
        ),
        (["\ud800"], "row 0: t must be"),
        (["2024-01-31 10:00:00.0005"], "row 0: t must be a whole number of ms, got"),
        (["2024-13-31"], "row 0: t must be a whole number or an ISO 8601 time"),
        (["31.01.2024"], "row 0: t must be a whole number or an ISO 8601 time"),
    ],
)
def test_values_that_are_no_times(values: list[Any], rule: str) -> None:
    with pytest.raises(DataError, match=rule):
        read(values)


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        (pa.array([True]), "got True"),
        (pa.array([timedelta(1)]), "got a column of duration"),
        (pa.array([2.0**24], pa.float32()), r"below 2\*\*24 as a floating-point number"),
        (pa.array([None], pa.int64()), "is missing"),
        (pa.nulls(1), "is missing"),
        (pa.array([1], pa.timestamp("ns")), "a whole number of ms"),
    ],
)
def test_columns_that_are_no_times(column: pa.Array, rule: str) -> None:
    with pytest.raises(DataError, match=rf"row 0: t .*{rule}"):
        read(column)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_texts_of_any_type(kind: pa.DataType) -> None:
    assert read(pa.array(["2024-01-31 10:00:00"]).cast(kind)) == [TEN]


def test_numbers_are_scaled_and_dates_are_not() -> None:
    assert read(["1.5", " 2 "], factor="10") == read([1.5, 2.0], factor="10") == [15, 20]
    assert read(["2024-01-31 10:00:00"], factor="10") == [TEN]


moments = st.datetimes(datetime(1678, 1, 1), datetime(2261, 1, 1))


@given(
    st.lists(moments, min_size=1, max_size=4), st.sampled_from(["s", "ms", "us", "ns"]), st.data()
)
def test_dates_in_every_spelling_come_back(values: list[datetime], unit: str, data: Any) -> None:
    """Texts, Python, numpy, pandas and Arrow dates of one moment are one time."""
    microseconds = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 1}[unit]
    epoch = datetime(1970, 1, 1)
    exact = [(value - epoch) // timedelta(microseconds=microseconds) for value in values]
    moved = [epoch + timedelta(microseconds=microseconds) * one for one in exact]
    wanted = [one * (1000 if unit == "ns" else 1) for one in exact]
    offset = data.draw(st.integers(-840, 840))
    zone = timezone(timedelta(minutes=offset))
    aware = [one.replace(tzinfo=timezone.utc).astimezone(zone) for one in moved]
    for naive in (moved, [str(one) for one in moved], [np.datetime64(one) for one in moved]):
        assert read(naive, unit) == wanted
    assert read(pa.array(moved), unit) == wanted
    assert read([pd.Timestamp(one) for one in aware], unit) == wanted
    assert read([str(one) for one in aware], unit) == wanted
    for spelled in ("%Y%m%dT%H%M%S.%f%z", "%Y/%m/%d %H:%M:%S.%f %z", "%Y-%m-%dT%H:%M:%S,%f%z"):
        assert read([one.strftime(spelled) for one in aware], unit) == wanted


whole = st.integers(-(2**63), 2**63 - 1)


@given(whole, st.integers(-6, 6))
def test_scaled_numbers_come_back_or_are_refused(time: int, exponent: int) -> None:
    factor = Decimal(10) ** exponent
    text = f"{Decimal(time) / factor:f}"
    assert read([text], None, factor=str(factor)) == [time]
