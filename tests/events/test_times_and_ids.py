from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pres_dist.errors import DataError
from pres_dist.events.import_config import ImportConfig


def times(run_import, *values, **options):
    rows = "".join(f"0,1,{value}\n" for value in values)
    return run_import(f"src,dst,t\n{rows}", **options).stream.t.tolist()


def parquet_times(run_import, tmp_path, values, **options):
    table = pa.table({"src": [0] * len(values), "dst": [1] * len(values), "t": values})
    pq.write_table(table, tmp_path / "x.parquet")
    return run_import(tmp_path / "x.parquet", **options).stream.t.tolist()


def test_whole_numbers_in_any_form(run_import):
    assert times(run_import, "-3", "0.0", "1.2e1", "1E+16") == [-3, 0, 12, 10**16]


def test_large_times_stay_exact(run_import, tmp_path):
    large = [10**16 + 1, 2**53 + 1, 2**63 - 2]
    assert times(run_import, *large, sort=True) == sorted(large)
    assert parquet_times(run_import, tmp_path, large, sort=True, force=True) == sorted(large)


def test_scaling_is_exact(run_import):
    seconds = ["0.001", "1577836800.123", "9007199254740.993"]
    wanted = [1, 1_577_836_800_123, 9_007_199_254_740_993]
    assert times(run_import, *seconds, time_scale="1000") == wanted


def test_scaling_floats_goes_by_their_decimal_form(run_import, tmp_path):
    assert parquet_times(run_import, tmp_path, [0.1, 1.1, 2.3], time_scale="10") == [1, 11, 23]


def test_scaling_down_must_come_out_whole(run_import):
    assert times(run_import, "1000", "3000", time_scale="0.001") == [1, 3]
    with pytest.raises(DataError, match=r"events\.csv:2: .* after multiplying by 0\.001"):
        times(run_import, "1001", time_scale="0.001", force=True)


def test_scaled_overflow(run_import):
    with pytest.raises(DataError, match="range of int64"):
        times(run_import, str(2**62), time_scale="1000")


@pytest.mark.parametrize("scale", ["0", "-1", "x", "1e13", "1e-13", "nan", "inf"])
def test_time_scale_must_be_sensible(scale, tmp_path):
    with pytest.raises(ValueError, match="must be a number from"):
        ImportConfig(source=tmp_path, out=tmp_path, time_scale=scale)


@pytest.mark.parametrize(
    ("texts", "unit", "wanted"),
    [
        (["1970-01-01 00:00:01.5", "1970-01-02"], None, [1500, 86_400_000]),
        (["1970-01-01T00:00:01Z", "1970-01-01T02:00:02+02:00"], "s", [1, 2]),
        (["2020-01-01T00:00:00.000001"], "us", [1_577_836_800_000_001]),
    ],
)
def test_iso_times(texts, unit, wanted, run_import):
    assert times(run_import, *texts, time_unit=unit) == wanted


@pytest.mark.parametrize(
    ("texts", "line", "rule"),
    [
        (["2020-01-01", "yesterday"], 3, "a whole number or an ISO 8601 time"),
        (["2020-01-01T00:00:00Z", "2020-01-01T00:00:01"], 3, "have a time zone"),
        (["2020-01-01T00:00:00", "2020-01-01T00:00:01 UTC"], 3, "have no time zone"),
        (["2020-01-01 00:00:00.1234567"], 2, "be a whole number of ms .--time-unit ns keeps"),
        (["3000-01-01"], 2, "in the range of int64 as ns"),
    ],
)
def test_bad_iso_times(texts, line, rule, run_import):
    unit = "ns" if "int64" in rule else None
    with pytest.raises(DataError, match=rf"events\.csv:{line}: time must .*{rule}"):
        times(run_import, *texts, time_unit=unit)


def test_timestamp_columns(run_import, tmp_path):
    values = [datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2020, 1, 2, tzinfo=timezone.utc)]
    assert parquet_times(run_import, tmp_path, values) == [1_577_836_800_000, 1_577_923_200_000]
    days = parquet_times(run_import, tmp_path, [date(1970, 1, 2)], time_unit="s", force=True)
    assert days == [86_400]


def test_decimal_columns(run_import, tmp_path):
    assert parquet_times(run_import, tmp_path, [Decimal("1.00"), Decimal("2.00")]) == [1, 2]


def test_time_scale_of_timestamps_is_refused(run_import):
    with pytest.raises(DataError, match=r"--time-scale is for plain numbers"):
        times(run_import, "2020-01-01", time_scale="1000")


@pytest.mark.parametrize(
    ("values", "options", "note"),
    [
        (["20240131", "20240201"], {}, "times look like dates and are read as plain numbers"),
        (["20240131100000", "20240131235959"], {}, "times look like dates and are read"),
        (["20240131", "20240299"], {}, None),
        (["20240131", "20241301"], {}, None),
        (["1700000000", "1700000001", "1700000002000"], {}, "look like seconds and milliseconds"),
        (["1700000000000", "1700000000000000"], {}, "look like milliseconds and microseconds"),
        (["1700000000", "1800000000"], {}, None),
        (["1000000000", "9000000000", "90000000000", "900000000000"], {}, None),
        (["1700000000000000"], {"time_unit": "ms"}, "is in the year 55,8"),
        (["1700000000000"], {"time_unit": "ms"}, None),
        (["2024-01-31"], {}, None),
    ],
)
def test_notes_on_times(values, options, note, run_import):
    rows = "".join(f"0,1,{value}\n" for value in values)
    found = [one for one in run_import(f"src,dst,t\n{rows}", **options).notes if "time" in one]
    assert len(found) == (note is not None)
    assert not found or note in found[0]


def test_text_ids_are_mapped_in_order_of_appearance(run_import):
    stream = run_import("src,dst,t\nann,bob,1\nbob,cy,2\nü,ann,3\n").stream
    assert stream.src.tolist() == [0, 1, 3]
    assert stream.dst.tolist() == [1, 2, 0]
    assert stream.raw_ids([3, 0]) == ["ü", "ann"]


def test_bipartite_text_ids_are_two_id_spaces(run_import):
    stream = run_import("src,dst,t\na,a,1\nb,a,2\na,c,3\n", bipartite=True).stream
    assert stream.num_sources == 2
    assert stream.src.tolist() == [0, 1, 0]
    assert stream.dst.tolist() == [2, 2, 3]
    assert stream.raw_ids(np.arange(4)) == ["a", "b", "a", "c"]


def test_numbering_does_not_depend_on_batches(run_import, monkeypatch):
    random = np.random.default_rng(0)
    names = random.integers(0, 500, (3_000, 2))
    text = "src,dst,t\n" + "".join(f"n{a},n{b},{t}\n" for t, (a, b) in enumerate(names))
    whole = run_import(text).stream
    before = [whole.src.copy(), whole.dst.copy()]
    monkeypatch.setattr("pres_dist.events.readers.csv_table.BLOCK_BYTES", 1 << 10)
    again = run_import(text, force=True).stream
    assert (again.src == before[0]).all()
    assert (again.dst == before[1]).all()
    assert again.raw_ids(again.src) == [f"n{a}" for a in names[:, 0]]


def test_integer_ids_can_be_mapped(run_import, tmp_path):
    large = 10**18
    assert run_import(f"src,dst,t\n{large},7,1\n", ids="map").stream.raw_ids([0, 1]) == [
        str(large),
        "7",
    ]
    pq.write_table(pa.table({"src": [large], "dst": [7], "t": [1]}), tmp_path / "x.parquet")
    stream = run_import(tmp_path / "x.parquet", ids="map", force=True).stream
    assert stream.raw_ids([0, 1]).tolist() == [large, 7]


def test_missing_ids_are_not_a_node(run_import):
    with pytest.raises(DataError, match=r"events\.csv:3: dst is missing"):
        run_import("src,dst,t\nann,bob,1\nann,,2\n")
