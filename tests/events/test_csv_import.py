from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pres_dist.errors import ConfigError, DataError
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from tests.support.nightly import drawn

PLAIN = "src,dst,t\n0,2,10\n1,3,10\n0,3,12\n"


def test_reads_columns_by_name(run_import):
    text = "f1,t,label,dst,src,f0\n0.5,10,1,2,0,-1\n1e-3,11,0,1,2,3\n"
    stream = run_import(text).stream
    assert stream.src.tolist() == [0, 2]
    assert stream.dst.tolist() == [2, 1]
    assert stream.t.tolist() == [10, 11]
    assert stream.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(stream.edge_features, np.float32([[-1, 0.5], [3, 1e-3]]))
    assert stream.metadata["feature_names"] == ["f0", "f1"]
    assert stream.num_nodes == 3
    assert not stream.bipartite


def test_named_columns_and_a_note_on_the_unused(run_import):
    text = "user,item,when,weight,comment\n0,1,5,2.5,hello\n"
    result = run_import(text, src="user", dst="item", time="when", features="weight")
    assert result.stream.edge_features.tolist() == [[2.5]]
    assert "columns not used: comment" in result.notes


def test_detects_bipartite_streams(run_import):
    result = run_import(PLAIN)
    assert result.stream.num_sources == 2
    assert any("bipartite, 2 sources and 2 destinations" in note for note in result.notes)


def test_bipartite_moves_destinations_behind_sources(run_import):
    stream = run_import("src,dst,t\n0,0,1\n4,1,2\n", bipartite=True).stream
    assert stream.num_sources == 5
    assert stream.dst.tolist() == [5, 6]
    assert stream.raw_ids([4, 5, 6]).tolist() == [4, 0, 1]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv.gz", "a.tsv.gz"])
def test_tabs_and_gzip(name, run_import, tmp_path):
    text = PLAIN.replace(",", "\t") if "tsv" in name else PLAIN
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert run_import(file).stream.t.tolist() == [10, 10, 12]


@pytest.mark.parametrize(
    "text",
    ["\ufeff" + PLAIN, PLAIN.replace("\n", "\r\n"), "\n" + PLAIN, PLAIN.replace("\n", "\n\n")],
    ids=["byte order mark", "carriage returns", "blank line first", "blank lines"],
)
def test_harmless_variants(text, run_import):
    assert run_import(text).stream.t.tolist() == [10, 10, 12]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"src,dst,t\n0,1,{10**40}\n",
            "events.csv:2: time must be a whole number or an ISO 8601 time in the range",
        ),
        ("src,dst,t\n0,1,5\n0,,6\n", "events.csv:3: dst is missing"),
        ("src,dst,t\n0,1,5\n0,\u00a0,6\n", "events.csv:3: dst is missing"),
        ("src,dst,t\n0,1,5\n\n\n0,1,4\n", "events.csv:5: time must not decrease"),
        ("src,dst,t\n0,1,1.5\n", "events.csv:2: time must be a whole number (--time-scale"),
        (
            "src,dst,t\n0,1,nan\n",
            "events.csv:2: time must be a whole number or an ISO 8601 time, got 'nan'",
        ),
        ("src,dst,t,f0\n0,1,5,1\n0,1,5,nan\n", "events.csv:3: f0 must be a finite float32"),
        ("src,dst,t,f0\n0,1,5,1e300\n", "events.csv:2: f0 must be a finite float32"),
        ("src,dst,t,f0\n0,1,5,x\n", "events.csv:2: f0 must be a finite number, got 'x'"),
        (
            'src,dst,t,f0\n0,1,5,"0,5"\n',
            "f0 must be a finite number with a decimal point",
        ),
        ("src,dst,t,f0\n0,1,5,\n", "events.csv:2: f0 must be a finite number, got ''"),
        (
            "src,dst,t,label\n0,1,5,good\n",
            "events.csv:2: label must be an integer, got 'good' (a col",
        ),
        ("src;dst;t\na;b;1\n", "are: src;dst;t (is it one column? --delimiter ';' splits it)"),
        ("src|dst|t\na|b|1\n", "are: src|dst|t (is it one column? --delimiter '|' splits it)"),
        ("src dst t\na b 1\n", "are: src dst t (is it one column? --delimiter space splits it)"),
        ("src,dst,t\n0,1,5\n0,1\n", "events.csv:3: must have 3 fields, got 2"),
        ("src,dst,t\n0,1,5\n0,1,6,7\n", "events.csv:3: must have 3 fields, got 4"),
        ("src,to,t\n0,1,5\n", "column 'dst' is missing; the columns are: src, to, t"),
        ("src,dst,src,t\n0,1,5,6\n", "column 'src' is there 2 times"),
        ("", "events.csv: the file is empty"),
        ("\n\n", "there must be a header and at least one event, got 0 rows"),
        ("src,dst,t\n", "events.csv: there must be at least one event, got none"),
        (b"src,dst,t\n0,1,5\n0,\xff,6\n", "events.csv:3: must be UTF-8 text"),
        (b"\xff\xfe\n0,1,5\n", "events.csv:1: must be UTF-8 text"),
    ],
)
def test_one_clear_error_and_nothing_left(text, message, run_import, out_entries):
    with pytest.raises(DataError, match=re.escape(message)):
        run_import(text)
    assert out_entries() == []


@pytest.mark.parametrize("given", ["abc", "1.5", "0x10", "007", "+1", "1e3", "1_0", "\u0663"])
def test_only_integers_are_kept(given, run_import, out_entries):
    message = f"events.csv:3: dst must be an integer >= 0, got '{given}' (--ids map takes ids of"
    with pytest.raises(DataError, match=re.escape(message)):
        run_import(f"src,dst,t\n0,1,5\n0,{given},6\n", ids="keep")
    assert out_entries() == []


def test_error_far_into_the_file_has_its_true_line(run_import, monkeypatch):
    monkeypatch.setattr("pres_dist.events.readers.csv_table.BLOCK_BYTES", 1 << 12)
    lines = [f"{i},{i + 1},{i}" for i in range(5_000)]
    lines[4_321] = "7,oops,4321"
    with pytest.raises(DataError, match=r"events\.csv:4323: dst must be an integer >= 0"):
        run_import("\n".join(["src,dst,t", *lines]), ids="keep")


def test_truncated_gzip(run_import, tmp_path, out_entries):
    lines = "".join(f"{i},{i * 7919 % 10007},{i}\n" for i in range(50_000))
    whole = gzip.compress(b"src,dst,t\n" + lines.encode())
    file = tmp_path / "events.csv.gz"
    for cut in (len(whole) // 2, len(whole) - 4, 30):
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="the compressed data is damaged or cut off"):
            run_import(file)
    assert out_entries() == []


def test_options_that_cannot_apply(run_import, tmp_path):
    with pytest.raises(DataError, match="exclude each other"):
        run_import("src,dst,t,f0\n0,1,2,3\n", features="f0", feature_file=tmp_path / "x.npy")
    with pytest.raises(DataError, match="cannot be used for two things"):
        run_import(PLAIN, features="t")
    with pytest.raises(DataError, match=r"nothing\.csv: cannot be read: No such file"):
        run_import(tmp_path / "nothing.csv")


def test_feature_files(run_import, tmp_path):
    edges, nodes = tmp_path / "edges.npy", tmp_path / "nodes.npy"
    np.save(edges, np.arange(6.0).reshape(3, 2))
    np.save(nodes, np.ones((4, 1), dtype=np.float32))
    stream = run_import(PLAIN, feature_file=edges, node_features=nodes).stream
    assert stream.edge_features.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert stream.node_dim == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [(2, "edge features have rows 0..1, but the event needs row 2"), (4, "got 4 rows")],
)
def test_feature_rows_must_match_events(rows, message, run_import, tmp_path, out_entries):
    np.save(tmp_path / "x.npy", np.zeros((rows, 2)))
    with pytest.raises(DataError, match=re.escape(message)):
        run_import(PLAIN, feature_file=tmp_path / "x.npy")
    assert out_entries() == []


def test_node_features_must_match_nodes(run_import, tmp_path, out_entries):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match="node features must have 4 rows, got 3"):
        run_import(PLAIN, node_features=tmp_path / "x.npy")
    assert out_entries() == []


def test_feature_file_is_never_unpickled(run_import, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy: cannot be read as \.npy"):
        run_import(PLAIN, feature_file=tmp_path / "x.npy")


@pytest.mark.parametrize(("name", "character"), [(";", ";"), ("|", "|"), ("space", " ")])
def test_other_delimiters(name, character, run_import):
    stream = run_import(PLAIN.replace(",", character), delimiter=name).stream
    assert stream.dst.tolist() == [2, 3, 3]


def test_a_delimiter_is_one_character(run_import):
    with pytest.raises(ConfigError, match="--delimiter must be one ASCII character, tab or space"):
        run_import(PLAIN, delimiter=";;")


def test_features_by_name(run_import):
    text = 'src, dst, t, a,"b, c", ok\n0,1,2, 0.5,1.5,True\n0,1,3,1, 2,false\n'
    stream = run_import(text, features='a, "b, c" ,ok').stream
    assert stream.edge_features.tolist() == [[0.5, 1.5, 1], [1, 2, 0]]
    text = "src,dst,t, label, f1, f0\n0,1,2, True,5,4\n0,1,2,false,5,4\n"
    stream = run_import(text, force=True).stream
    assert stream.labels.tolist() == [1, 0]
    assert stream.edge_features.tolist() == [[4, 5], [4, 5]]


@pytest.mark.parametrize("option", ["source", "out", "feature_file"])
def test_an_address_is_shown_as_it_was_typed(option, tmp_path):
    options = {"source": tmp_path / "x.csv", "out": tmp_path / "out", option: "http://x/y.csv"}
    with pytest.raises(DataError, match=r"^http://x/y\.csv: must be a path on this machine"):
        ImportConfig(**options)


def test_sort_is_stable(run_import):
    text = "src,dst,t\n0,9,5\n1,9,3\n2,9,5\n3,9,3\n4,9,-1\n"
    stream = run_import(text, sort=True).stream
    assert stream.src.tolist() == [4, 1, 3, 0, 2]
    assert stream.t.tolist() == [-1, 3, 3, 5, 5]


def test_unused_ids_are_pointed_out(run_import):
    result = run_import("src,dst,t\n0,1000000,5\n", ids="keep")
    assert result.stream.num_nodes == 1_000_001
    assert any("--ids map" in note for note in result.notes)


def test_columns_of_the_usual_names_can_be_left_out(run_import):
    stream = run_import("src,dst,t,label,f0\n0,1,2,good,x\n", label="", features="").stream
    assert stream.labels is None
    assert stream.edge_dim == 0


def test_named_ids_that_look_bipartite_are_pointed_out(run_import):
    result = run_import("src,dst,t\nann,x,1\nbob,x,2\n")
    assert "no id is both a source and a destination; is the stream --bipartite?" in result.notes


ids = st.integers(0, 2**40)
# Both ends of int64 in one stream would be further apart than int64 can tell.
times = st.integers(-(2**62) + 1, 2**62 - 1)


@settings(max_examples=drawn(60, 3), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(
        st.tuples(ids, ids, times, st.floats(width=32)),
        min_size=1,
        max_size=30,
    )
)
def test_what_was_written_is_read(events, tmp_path):
    events = sorted((e for e in events if np.isfinite(e[3])), key=lambda e: e[2])
    if not events:
        return
    file = tmp_path / "roundtrip.csv"
    rows = [f"{src},{dst},{t},{f!r}" for src, dst, t, f in events]
    file.write_text("\n".join(["src,dst,t,f0", *rows]))
    config = ImportConfig(source=file, out=tmp_path / "roundtrip", force=True)
    stream = import_stream(config).stream
    src, dst, t, features = (list(column) for column in zip(*events, strict=True))
    for column, expected in ((stream.src, src), (stream.dst, dst)):
        assert [int(raw) for raw in stream.raw_ids(column)] == expected
    assert stream.t.tolist() == t
    assert stream.edge_features[:, 0].tolist() == features


def test_real_streams_import(real_data: Path, run_import):
    stream = run_import(real_data / "collegemsg.csv.gz").stream
    assert (stream.num_events, stream.num_nodes) == (59_835, 1_899)
