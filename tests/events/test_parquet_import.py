from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pres_dist.errors import DataError


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_reads_columns_of_any_number_type(run_import, tmp_path):
    file = write(
        tmp_path / "x.parquet",
        src=pa.array([0, 1], pa.uint8()),
        dst=pa.array([2, 3], pa.int32()),
        t=pa.array([1.0, 2.0]),
        label=pa.array([-1, 0], pa.int16()),
        f0=pa.array([1, 2]),
        f1=pa.array([True, False]),
        f2=pa.array([0.5, 0.25], pa.float64()),
    )
    stream = run_import(file).stream
    assert stream.t.tolist() == [1, 2]
    assert stream.labels.tolist() == [-1, 0]
    assert stream.edge_features.tolist() == [[1, 1, 0.5], [2, 0, 0.25]]
    assert stream.num_sources == 2


def test_dictionary_columns(run_import, tmp_path):
    names = pa.array(["ann", "bob", "ann"]).dictionary_encode()
    file = write(tmp_path / "x.parquet", src=names, dst=pa.array(["x", "y", "z"]), t=[1, 2, 3])
    stream = run_import(file, bipartite=True).stream
    assert stream.raw_ids(stream.src) == ["ann", "bob", "ann"]


def test_many_batches(run_import, tmp_path, monkeypatch):
    monkeypatch.setattr("pres_dist.events.readers.parquet_table.BATCH_VALUES", 1)
    t = np.arange(5_000)
    file = write(tmp_path / "x.parquet", src=t % 7, dst=t % 11, t=t)
    stream = run_import(file).stream
    assert (stream.dst == t % 11).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"src": [0, float("nan")]}, "x.parquet: row 1: src is missing"),
        ({"src": [0, None]}, "x.parquet: row 1: src is missing"),
        ({"src": [0.0, 2.0**53]}, "row 1: src holds floating-point numbers of 2**53 and more"),
        ({"src": pa.array([1, 2**24], pa.float32())}, "row 1: src holds floating-point numbers"),
        ({"src": [b"a", b"b"]}, "x.parquet: row 0: src must be integers or texts, got a column of"),
        ({"src": [0.0, 0.5]}, "row 1: src must be a whole number, got 0.5"),
        ({"src": [[1], [2]]}, "got a column of list"),
        ({"src": [True, False]}, "got a column of bool"),
        ({"t": [2, 1]}, "row 1: time must not decrease"),
        ({"t": [1, None]}, "row 1: time is missing"),
        (
            {"t": [0.0, float("nan")]},
            "row 1: time must be a whole number or an ISO 8601 time, got nan",
        ),
        ({"f0": [1.0, float("inf")]}, "row 1: feature 0 must be a finite"),
        ({"f0": [1.0, None]}, "row 1: f0 is missing"),
        ({"f0": [[1], [2]]}, "f0 must be numbers, got a column of list"),
        ({"label": [1.5, 1.0]}, "row 0: label must be a whole number, got 1.5"),
    ],
)
def test_one_clear_error_and_nothing_left(columns, message, run_import, tmp_path, out_entries):
    file = write(tmp_path / "x.parquet", **({"src": [0, 1], "dst": [1, 2], "t": [1, 2]} | columns))
    with pytest.raises(DataError, match=re.escape(message)):
        run_import(file)
    assert out_entries() == []


def test_missing_column(run_import, tmp_path):
    file = write(tmp_path / "x.parquet", src=[1], dst=[2])
    with pytest.raises(DataError, match="column 't' is missing; the columns are: src, dst"):
        run_import(file)


def test_no_rows(run_import, tmp_path, out_entries):
    empty = pa.array([], pa.int64())
    with pytest.raises(DataError, match="at least one event"):
        run_import(write(tmp_path / "x.parquet", src=empty, dst=empty, t=empty))
    assert out_entries() == []


def test_truncated(run_import, tmp_path, out_entries):
    file = write(tmp_path / "x.parquet", src=[0] * 999, dst=[1] * 999, t=list(range(999)))
    whole = file.read_bytes()
    for cut in (1, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet"):
            run_import(file)
    assert out_entries() == []
