"""Whatever ids and times go in come out: imported, extended, served and exported.

Streams are compared without a model: ids do not depend on one.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.errors import DataError
from pres_dist.events.convert import WHITE_SPACE
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.lookup import NodeLookup
from pres_dist.events.raw_ids import id_column
from pres_dist.events.stream import EventStream
from pres_dist.inference.embeddings import find_nodes, read_ids
from pres_dist.inference.new_events import EventColumns, read_new_events, write_longer
from pres_dist.inference.node_table import table_of, write_tables
from pres_dist.inference.serve.checks import EventChecks
from pres_dist.inference.serve.fold import _new_events
from pres_dist.inference.serve.names import NodeNames
from pres_dist.inference.serve.request_models import Event

quick = settings(max_examples=40, derandomize=True, database=None)

LOOK_ALIKES = (
    *("7", "07", "007", "7.0", "+7", "-7", "1e1", "10", "0x7", "1_0", "\u0667", "nan", "null"),
)
small = st.integers(0, 9)
large = st.integers(0, 2**63 - 1)
signed = st.integers(-(2**63), 2**63 - 1)
words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n"), max_size=5)
texts = st.one_of(st.sampled_from(LOOK_ALIKES), words).filter(lambda text: text.strip(WHITE_SPACE))


@dataclass(frozen=True)
class Events:
    """Events as a user has them; `ids` is what they must come out as."""

    src: list[Any]
    dst: list[Any]
    t: list[int]

    @property
    def ids(self) -> list[tuple[str, str]]:
        ends = zip(self.src, self.dst, strict=True)
        return [(plain(src), plain(dst)) for src, dst in ends]

    def part(self, rows: slice) -> Events:
        return Events(self.src[rows], self.dst[rows], self.t[rows])


def plain(raw: object) -> str:
    """An id without the white space around it."""
    return str(raw).strip(WHITE_SPACE)


@st.composite
def events(draw: st.DrawFn, ids: st.SearchStrategy[Any], times: int = 2**61) -> Events:
    """Events among few ids, so that most come again; no two at one time."""
    pool = draw(st.lists(ids, min_size=1, max_size=6))
    ends = draw(
        st.lists(st.tuples(st.sampled_from(pool), st.sampled_from(pool)), min_size=2, max_size=12)
    )
    t = draw(
        st.lists(st.integers(-times, times), min_size=len(ends), max_size=len(ends), unique=True)
    )
    src, dst = zip(*ends, strict=True)
    return Events(list(src), list(dst), sorted(t))


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def csv_file(folder: Path, of: Events) -> Path:
    file = folder / "events.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["src", "dst", "t"])
        writer.writerows(zip(map(str, of.src), map(str, of.dst), of.t, strict=True))
    return file


def parquet_file(folder: Path, of: Events, src: pa.DataType, dst: pa.DataType) -> Path:
    def column(values: list[Any], kind: pa.DataType) -> pa.Array:
        if pa.types.is_dictionary(kind):
            return column(values, kind.value_type).dictionary_encode()
        is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        return pa.array([str(one) for one in values] if is_text else values, kind)

    columns = {"src": column(of.src, src), "dst": column(of.dst, dst), "t": pa.array(of.t)}
    pq.write_table(pa.table(columns), folder / "events.parquet")
    return folder / "events.parquet"


def imported(folder: Path, source: Path, **options: Any) -> EventStream:
    config = ImportConfig(source=source, out=folder / "stream", force=True, **options)
    return import_stream(config).stream


def ids_of(stream: EventStream) -> list[tuple[str, str]]:
    ends = (stream.raw_ids(stream.src), stream.raw_ids(stream.dst))
    return [(str(src), str(dst)) for src, dst in zip(*ends, strict=True)]


def check(stream: EventStream, of: Events) -> None:
    """The stream holds the very ids and times, and finds its nodes by them."""
    assert ids_of(stream) == of.ids
    assert stream.t.tolist() == of.t
    lookup = NodeLookup(stream)
    for column, nodes, side in (
        (of.src, stream.src, "source"),
        (of.dst, stream.dst, "destination"),
    ):
        asked = id_column(pa.array([str(one) for one in column]), "ids", str)
        found = lookup.nodes(asked, side if stream.bipartite else None)
        assert found.tolist() == nodes.tolist()


options = st.fixed_dictionaries(
    {"ids": st.sampled_from(["auto", "map"]), "bipartite": st.booleans()}
)


@quick
@given(of=st.one_of(events(texts), events(small), events(large), events(signed)), how=options)
def test_csv(folder: Path, of: Events, how: dict[str, Any]) -> None:
    check(imported(folder, csv_file(folder, of), **how), of)


INTEGERS = [pa.int64(), pa.uint64(), pa.int32(), pa.decimal128(38, 0), pa.float64(), pa.float32()]
TEXTS = [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string())]
of_integers = st.sampled_from([*INTEGERS, *TEXTS, pa.dictionary(pa.int8(), pa.int64())])


@quick
@given(of=events(small), src=of_integers, dst=of_integers, how=options)
def test_parquet_of_numbers(
    folder: Path, of: Events, src: pa.DataType, dst: pa.DataType, how: dict[str, Any]
) -> None:
    check(imported(folder, parquet_file(folder, of, src, dst), **how), of)


@quick
@given(of=events(texts), src=st.sampled_from(TEXTS), dst=st.sampled_from(TEXTS), how=options)
def test_parquet_of_texts(
    folder: Path, of: Events, src: pa.DataType, dst: pa.DataType, how: dict[str, Any]
) -> None:
    check(imported(folder, parquet_file(folder, of, src, dst), **how), of)


@quick
@given(
    of=st.one_of(events(signed), events(st.integers(0, 2**64 - 1)), events(texts)),
    kind=st.sampled_from(["plain", "category", "object", "Int64"]),
    bipartite=st.booleans(),
)
@pytest.mark.filterwarnings("ignore::pres_dist.errors.PresDistWarning")
def test_pandas(of: Events, kind: str, bipartite: bool) -> None:
    frame = pd.DataFrame({"src": of.src, "dst": of.dst, "t": of.t})
    if kind == "Int64" and any(isinstance(one, str) or one >= 2**63 for one in of.src + of.dst):
        kind = "plain"
    if kind != "plain":
        frame = frame.astype({"src": kind, "dst": kind})
    stream = EventStream.from_pandas(frame, bipartite=bipartite)
    assert (ids_of(stream), stream.t.tolist()) == (of.ids, of.t)


def same(one: EventStream, other: EventStream) -> None:
    for column in ("src", "dst", "t"):
        assert getattr(one, column).tolist() == getattr(other, column).tolist()
    assert (one.num_nodes, one.num_sources) == (other.num_nodes, other.num_sources)
    nodes = np.arange(one.num_nodes)
    assert list(one.raw_ids(nodes)) == list(other.raw_ids(nodes))


ways = st.sampled_from(
    [
        ({"ids": "keep"}, small),
        ({"ids": "keep", "bipartite": True}, small),
        ({"ids": "map"}, texts),
        ({"ids": "map", "bipartite": True}, texts),
        ({}, small),
    ]
)


@st.composite
def in_two_parts(draw: st.DrawFn, times: int = 2**61) -> tuple[dict[str, Any], Events, int]:
    """Draw settings of an import, its events, and the place to cut them in two."""
    how, ids = draw(ways)
    of = draw(events(ids, times))
    return how, of, draw(st.integers(1, len(of.t) - 1))


@quick
@given(case=in_two_parts())
def test_extending_is_an_import_of_all(
    folder: Path, case: tuple[dict[str, Any], Events, int]
) -> None:
    how, of, cut = case
    whole = imported(folder, csv_file(folder, of), name="s", **how)
    whole = whole.save(folder / "whole", force=True)
    first = imported(folder, csv_file(folder, of.part(slice(cut))), name="s", **how)
    later = csv_file(folder, of.part(slice(cut, None)))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        new = read_new_events(first, later, EventColumns(), None)
        same(write_longer(first, new, Path(place) / "longer"), whole)


@pytest.mark.parametrize(
    ("how", "row", "message"),
    [
        (
            {"ids": "keep"},
            "guest,1,9",
            "src must be an integer >= 0, got 'guest' (ids of s are",
        ),
        ({"ids": "keep"}, "1,07,9", "dst must be an integer >= 0, got '07' (ids of s are node"),
        ({"ids": "keep"}, "1,491700000000,9", "dst must be at most 1000000, because ids of s are"),
        ({"ids": "keep"}, "1,,9", "dst is missing"),
    ],
)
def test_ids_that_a_stream_of_node_numbers_cannot_take(
    how: dict[str, Any], row: str, message: str, tmp_path: Path
) -> None:
    source = tmp_path / "events.csv"
    source.write_text("src,dst,t\n0,1,2\n1,2,3\n")
    stream = imported(tmp_path, source, name="s", **how)
    source.write_text(f"src,dst,t\n{row}\n")
    with pytest.raises(DataError, match=re.escape(f"events.csv:2: {message}")):
        read_new_events(stream, source, EventColumns())


def test_integers_are_extended_by_integers_alone(tmp_path: Path) -> None:
    source = parquet_file(tmp_path, Events([-5, 7], [7, -5], [1, 2]), pa.int64(), pa.int32())
    stream = imported(tmp_path, source, ids="map")
    later = csv_file(tmp_path, Events(["-5", "8"], ["9", "7"], [3, 4]))
    new = read_new_events(stream, later, EventColumns())
    assert (new.chunk.src.tolist(), new.chunk.dst.tolist()) == ([0, 3], [2, 1])
    for odd in ("08", "x", str(2**63)):
        csv_file(tmp_path, Events(["7"], [odd], [3]))
        with pytest.raises(DataError, match=r"events\.csv:2: dst must be an integer in the range"):
            read_new_events(stream, later, EventColumns())


@quick
@given(case=in_two_parts(), as_json_numbers=st.booleans())
def test_serving_is_an_import_of_all(
    folder: Path, case: tuple[dict[str, Any], Events, int], as_json_numbers: bool
) -> None:
    how, of, cut = case
    whole = imported(folder, csv_file(folder, of), name="s", **how)
    whole = whole.save(folder / "whole", force=True)
    first = imported(folder, csv_file(folder, of.part(slice(cut))), name="s", **how)
    names, later = NodeNames(first), of.part(slice(cut, None))
    if names.one_of_two:  # an id keeps the side it was first seen on, which an import may not
        return
    form = (lambda raw: raw) if as_json_numbers else str
    body = json.loads(
        json.dumps(
            [
                {"src": form(src), "dst": form(dst), "t": t}
                for src, dst, t in zip(later.src, later.dst, later.t, strict=True)
            ]
        )
    )
    checks = EventChecks(first, names, max_ahead=None)
    accepted = checks.accept([Event(**one) for one in body], int(first.t[-1]) + 1)
    rows = json.loads(json.dumps(accepted))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        same(write_longer(first, _new_events(first, rows), Path(place) / "longer"), whole)


@quick
@given(of=events(texts), bipartite=st.booleans())
def test_exported_ids_find_their_nodes(folder: Path, of: Events, bipartite: bool) -> None:
    stream = imported(folder, csv_file(folder, of), bipartite=bipartite, ids="map")
    nodes = torch.arange(stream.num_nodes)
    table = table_of(stream, nodes, torch.zeros(len(nodes), 2), 0)
    for suffix in ("csv", "parquet", "npz"):
        file = folder / f"exported.{suffix}"
        write_tables(file, iter([table]), {"time": 0})
        assert exported_ids(file) == list(stream.raw_ids(np.arange(len(nodes))))
    if not bipartite:
        listed = folder / "ids.txt"
        with listed.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened, quoting=csv.QUOTE_ALL).writerows([one] for one in table.ids)
        assert find_nodes(NodeLookup(stream), *read_ids(listed)).tolist() == nodes.tolist()


def exported_ids(file: Path) -> list[str]:
    if file.suffix == ".npz":
        return [str(one) for one in np.load(file)["id"]]
    if file.suffix == ".parquet":
        return [str(one) for one in pq.read_table(file)["id"].to_pylist()]
    with file.open(newline="", encoding="utf-8") as opened:
        return [row["id"] for row in csv.DictReader(opened)]
