from __future__ import annotations

import re
from datetime import date

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


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.int64()), pa.list_(pa.float64(), 2)]
)
def test_embeddings_are_features(kind, run_import, tmp_path, monkeypatch):
    monkeypatch.setattr("pres_dist.events.readers.table.BATCH_VALUES", 1)
    vectors = [[event, -event] for event in range(2_000)]
    ends = {"src": [0] * 2_000, "dst": [1] * 2_000, "t": list(range(2_000))}
    file = write(tmp_path / "x.parquet", **ends, emb=pa.array(vectors, kind), f=pa.array(ends["t"]))
    stream = run_import(file, features="emb,f").stream
    expected = [[*vector, event] for event, vector in enumerate(vectors)]
    assert stream.edge_features.tolist() == expected


@pytest.mark.parametrize("kind", ["view", "dictionary", "texts"])
def test_texts_in_any_form(kind, run_import, tmp_path):
    def texts(*values):
        plain = pa.array(values)
        forms = {"view": pa.string_view(), "dictionary": pa.dictionary(pa.int8(), pa.string())}
        return plain if kind == "texts" else plain.cast(forms[kind])

    file = write(
        tmp_path / "x.parquet",
        src=texts("a", "b"),
        dst=texts("c", "c"),
        t=texts("1970-01-01", "1970-01-02"),
        label=texts("true", "0"),
        f0=texts("1.5", " 2"),
    )
    stream = run_import(file, time_unit="s").stream
    assert stream.raw_ids(stream.src) == ["a", "b"]
    assert stream.t.tolist() == [0, 86_400]
    assert stream.labels.tolist() == [1, 0]
    assert stream.edge_features.tolist() == [[1.5], [2]]


def test_boolean_labels(run_import, tmp_path):
    file = write(tmp_path / "x.parquet", src=[0, 1], dst=[2, 3], t=[1, 2], label=[True, False])
    assert run_import(file).stream.labels.tolist() == [1, 0]


def test_many_batches(run_import, tmp_path, monkeypatch):
    monkeypatch.setattr("pres_dist.events.readers.table.BATCH_VALUES", 1)
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
        ({"f0": [1.0, float("inf")]}, "row 1: f0 must be a finite float32"),
        ({"f0": [1.0, None]}, "row 1: f0 is missing"),
        ({"f0": [{"a": 1}, {"a": 2}]}, "row 0: f0 must be numbers, got a column of struct"),
        (
            {"f0": pa.array([[], []], pa.list_(pa.int64()))},
            "row 0: f0 must be lists of at least one",
        ),
        ({"f0": [[1], [2, 3]]}, "row 1: f0 must be lists of one length, 1 as the first, got 2"),
        ({"f0": [[1.0, 2.0], [3.0, None]]}, "row 1: f0 is missing"),
        (
            {"f0": [[1.0, 2.0], [3.0, 1e300]]},
            "row 1: f0 must be a finite float32",
        ),
        ({"label": [date(2024, 1, 1)] * 2}, "row 0: label must be an integer, got a column of"),
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
    with pytest.raises(DataError, match=r"x\.parquet: there must be at least one event, got none"):
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
