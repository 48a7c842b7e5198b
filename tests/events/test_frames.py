"""Tables in memory: what can be read is, and a wrong call is one error that names the argument."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pres_dist import EventStream
from pres_dist.errors import ArgumentError, DataError, PresDistError, PresDistWarning

pytestmark = pytest.mark.filterwarnings("ignore::pres_dist.errors.PresDistWarning")
make = EventStream.from_pandas


def frame(**columns: Any) -> pd.DataFrame:
    values = {
        "src": ["a", "b", "c"],
        "dst": ["x", "y", "x"],
        "t": [1, 2, 3],
        "amount": [1.0, 2.0, 4.0],
        **columns,
    }
    return pd.DataFrame(values)


def mixed(*values: Any) -> pd.Series:
    return pd.Series(list(values), dtype=object)


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (frame(), {"features": ["amount"]}),
        (frame().rename(columns={"amount": 7}), {"features": [7]}),
        (frame().rename(columns={"amount": "price, EUR"}), {"features": ["price, EUR"]}),
        (frame().rename(columns={"amount": 'a "b" '}), {"features": ['a "b" ']}),
        (pa.Table.from_pandas(frame()), {"features": ("amount",)}),
        (pa.RecordBatch.from_pandas(frame()), {"features": np.array(["amount"])}),
        (frame(amount=pd.arrays.SparseArray([1.0, 2.0, 4.0])), {"features": ["amount"]}),
        (frame(amount=np.array([1, 2, 4], ">f8")), {"features": ["amount"]}),
        (frame(t=np.array([1, 2, 3], ">i4")), {"features": ["amount"]}),
        (frame(t=pd.array([1, 2, 3], "Int64")), {"features": ["amount"]}),
        (frame(t=mixed(1, 2.0, np.int16(3))), {"features": ["amount"]}),
        (frame(unused=[1j, 2j, 3j]), {"features": ["amount"]}),
        (frame(unused=mixed([1], {}, "x")), {"features": ["amount"]}),
        (frame(t=[0.1, 0.2, 0.3]), {"features": ["amount"], "time_scale": 10}),
        (frame(t=[0.1, 0.2, 0.3]), {"features": ["amount"], "time_scale": 10.0}),
    ],
)
def test_tables_that_are_read(table: Any, options: dict[str, Any]) -> None:
    stream = make(table, **options)
    assert list(stream.raw_ids(stream.src)) == ["a", "b", "c"]
    assert stream.t.tolist() == [1, 2, 3]
    assert stream.edge_features is not None
    assert stream.edge_features[:, 0].tolist() == [1.0, 2.0, 4.0]


def test_numbers_as_names_of_columns() -> None:
    stream = make(pd.DataFrame([[0, 3, 5], [1, 4, 6]]), src=0, dst=1, t=2)  # type: ignore[arg-type]
    assert (stream.src.tolist(), stream.t.tolist()) == ([0, 1], [5, 6])


AWARE = pd.Timestamp("2024-01-01 01:00", tz="Europe/Berlin")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(pd.concat([frame(), frame()[["src"]]], axis=1)), "'src' is there 2 times"),
        (
            lambda: make(np.zeros(3, [("src", "i8")])),
            "frame must be a pandas DataFrame or an Arrow",
        ),
        (lambda: make({"src": [1], "dst": [2], "t": [3]}), "frame must be .*, got dict"),
        (lambda: make(None), "frame must be .*, got NoneType"),
        (lambda: make("events.csv"), "frame must be .* from_parquet reads files"),
        (lambda: make(frame(), time="t"), "time is not an argument: the column of times is"),
        (lambda: make(frame(), source="x"), "source is not an argument"),
        (lambda: make(frame(), bipartit=True), "bipartit is not an argument; did you mean `bip"),
        (lambda: make(frame(), "src"), r"from_pandas\(\): too many positional arguments"),
        (lambda: make(), r"from_pandas\(\): missing a required argument: 'frame'"),
        (lambda: make(frame(), features="amount"), "features must be a list of names of columns"),
        (lambda: make(frame(), features={"amount": 1}), "features must be a list"),
        (lambda: make(frame(), features=5), "features must be a list"),
        (lambda: make(frame(), features=[None]), r"features\[0\] must be the name of a column"),
        (lambda: make(frame(), src=None), "src must be the name of a column, got None"),
        (lambda: make(frame(), src=["src"]), "src must be the name of a column, got list"),
        (lambda: make(frame(), bipartite="yes"), "bipartite must be True or False, got 'yes'"),
        (lambda: make(frame(), sort=1), "sort must be True or False, got 1"),
        (lambda: make(frame(), out=5), "out must be a path, got 5"),
        (lambda: make(frame(), out=""), "out must be a path, got ''"),
        (lambda: make(frame(), time_unit="hours"), "time_unit: .*got 'hours'"),
        (lambda: make(frame(), time_scale=True), "time_scale: .*got True"),
        (lambda: make(frame(), ids=7), "ids: "),
        (
            lambda: make(frame(src=mixed("a", 1, "b"))),
            "row 1: a column has values of several types: src must be str as before, got int",
        ),
        (lambda: make(frame(src=mixed("a", "b\udcff", "c"))), "row 1: src must be Unicode text"),
        (
            lambda: make(frame(src=[1j, 2j, 3j])),
            "column 'src' must be numbers or texts, got complex",
        ),
        (
            lambda: make(frame(t=mixed(AWARE, pd.Timestamp("2024-01-02"), AWARE))),
            "row 1: time must",
        ),
        (
            lambda: make(frame(t=mixed(pd.Timestamp("2024"), AWARE, AWARE))),
            "row 1: time must have no",
        ),
        (lambda: make(frame(t=mixed(AWARE, 5, 6))), "row 1: t must be a date or text as the first"),
        (lambda: make(frame(t=pd.to_timedelta([1, 2, 3]))), "row 0: time must be a whole number"),
        (lambda: make(frame(t=[3, 2, 1])), r"time must not decrease \(import with sort=True"),
        (lambda: make(frame(t=[0.5, 1, 2])), r"\(time_scale=1000 turns seconds"),
        (lambda: make(frame(t=[2**63 - 1] * 3)), r"row 0: time must be above .* below 2\*\*63 - 1"),
        (lambda: make(frame(t=[-(2**62), 0, 2**62])), "times must span less than"),
        (
            lambda: make(frame(t=pd.to_datetime([1, 2, 3], unit="ns"))),
            r'time must be a whole number of ms \(time_unit="ns" keeps it\)',
        ),
        (lambda: EventStream.from_parquet(frame()), "path must be a path, got pandas"),
        (lambda: EventStream.from_parquet("x.parquet", features="f0"), "features must be a list"),
        (lambda: EventStream.open(None), "path must be a path, got None"),
        (lambda: make(frame()).save(3), "path must be a path, got 3"),
        (lambda: make(frame()).save("x", force=1), "force must be True or False, got 1"),
        (lambda: make(frame()).head("3"), "num_events must be an integer >= 1, got '3'"),
        (lambda: make(frame()).head(0), "num_events must be an integer >= 1, got 0"),
        (lambda: EventStream.from_arrays("ab", [1], [1]), "src must be a one-dimensional array"),
        (lambda: EventStream.from_arrays([[1], [2, 3]], [1], [1]), "src must be an array of num"),
        (lambda: EventStream.from_arrays([0], [1], [1], num_nodes=2.0), "num_nodes must be an int"),
        (
            lambda: EventStream.from_arrays([0], [1], [1], num_nodes=True),
            "num_nodes must be an int",
        ),
        (lambda: EventStream.from_arrays([0], [1], [1], name=3), "name must be a text, got 3"),
        (
            lambda: EventStream.from_arrays([0], [1], [1], metadata=[1]),
            "metadata must be a mapping",
        ),
        (
            lambda: EventStream.from_arrays([0], [1], t=[1], label=[1]),
            r"from_arrays\(\): got an unex",
        ),
        (lambda: EventStream.from_arrays([0], [1], [2**63 - 1]), "event 0: time must be above"),
    ],
)
def test_wrong_calls(call: Callable[[], object], message: str) -> None:
    with pytest.raises(PresDistError, match=message):
        call()


def test_an_argument_error_is_a_type_error_too() -> None:
    with pytest.raises(TypeError):
        make(frame(), color=1)
    with pytest.raises(ArgumentError):
        make(frame(), color=1)


def test_notes_of_an_import_are_warnings_at_the_line_of_the_call(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(frame())
        make(frame(), bipartite=True, features=["amount"], out=tmp_path / "stored")
    texts = [str(one.message) for one in caught]
    assert "columns not used: amount" in texts
    assert "no id is both a source and a destination; is the stream bipartite=True?" in texts
    assert {one.category for one in caught} == {PresDistWarning}
    assert {one.filename for one in caught} == {__file__}


def test_a_date_column_keeps_its_nanoseconds_or_is_refused() -> None:
    exact = pd.Timestamp("2024-01-31 10:00:00.000000001")
    stream = make(frame(t=mixed(exact, exact, exact)), time_unit="ns")
    assert stream.t[0] == exact.value
    with pytest.raises(DataError, match="a whole number of ms"):
        make(frame(t=mixed(exact, exact, exact)))
    whole = pd.Series(pd.to_datetime([1, 2, 3], unit="ms").as_unit("ns"))
    assert make(frame(t=whole)).t.tolist() == [1, 2, 3]
