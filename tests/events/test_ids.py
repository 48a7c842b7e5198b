"""Ids come out of an import as they went in: never a number for a text, never rounded."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pres_dist.errors import DataError
from pres_dist.events.raw_ids import canonical_integer, id_column, integers_of, parse_id

PHONES = [491_500_000_000 + place for place in range(6)]


def pairs(stream):
    """The ids of each event, as texts."""
    ends = (stream.raw_ids(stream.src), stream.raw_ids(stream.dst))
    return [(str(src), str(dst)) for src, dst in zip(*ends, strict=True)]


def csv(*rows):
    return "src,dst,t\n" + "".join(f"{src},{dst},{t}\n" for t, (src, dst) in enumerate(rows))


def parquet(path, src, dst):
    pq.write_table(pa.table({"src": src, "dst": dst, "t": list(range(len(src)))}), path)
    return path


@pytest.mark.parametrize(
    "rows",
    [
        [("007", "10"), ("7", "10"), ("00042", "11")],
        [("1e3", "10"), ("1000", "10"), ("2E2", "11")],
        [("1.0", "2"), ("1", "2"), ("1.00", "+1")],
        [("-1", "2"), ("1", "2")],
        [("1_0", "2"), ("10", "2")],
        [("\u0667", "2"), ("7", "2")],
        [("0x10", "2"), ("16", "2")],
        [(str(2**63 - 1), "2"), (str(2**63), "2"), (str(2**64 + 1), "2")],
    ],
)
def test_texts_that_look_like_numbers_stay_texts(rows, run_import):
    result = run_import(csv(*rows))
    assert pairs(result.stream) == rows
    assert result.stream.num_nodes == len({raw for row in rows for raw in row})
    assert any("ids mapped to 0, 1, ..." in note for note in result.notes)
    with pytest.raises(DataError, match="must be an integer >= 0"):
        run_import(csv(*rows), ids="keep", force=True)


@pytest.mark.parametrize("odd", ["007", "guest", "-5"])
@pytest.mark.parametrize("block", [1 << 12, 8 << 20])
def test_auto_looks_at_all_ids(odd, block, run_import, monkeypatch):
    monkeypatch.setattr("pres_dist.events.readers.csv_table.BLOCK_BYTES", block)
    rows = [(str(i % 50), str(i % 7)) for i in range(6_000)]
    rows[5_000] = ("3", odd)
    result = run_import(csv(*rows))
    assert pairs(result.stream) == rows
    (note,) = [note for note in result.notes if "ids mapped" in note]
    assert f"events.csv:5002: dst is {odd}" in note.replace("'", "")


@pytest.mark.parametrize("options", [{}, {"bipartite": True}, {"ids": "map"}])
@pytest.mark.parametrize(
    ("src", "dst"),
    [
        (pa.array([1, 2, 1], pa.uint64()), pa.array([4, 5, 6], pa.int64())),
        (pa.array([1, 2, 1], pa.int32()), pa.array([4, 5, 6], pa.int64())),
        (pa.array([1, 2, 1], pa.uint8()), pa.array([4.0, 5.0, 6.0])),
        (pa.array([1, 2, 1]).dictionary_encode(), pa.array([4, 5, 6], pa.int16())),
        (pa.array([1, 2, 1]), pa.array(["4", "5", "6"]).dictionary_encode()),
        (pa.array(["1", "2", "1"], pa.string_view()), pa.array(["4", "5", "6"])),
        (pa.array([Decimal("1.00"), Decimal(2), Decimal(1)]), pa.array([4, 5, 6])),
    ],
)
def test_columns_of_two_types(src, dst, options, run_import, tmp_path):
    stream = run_import(parquet(tmp_path / "x.parquet", src, dst), **options).stream
    assert pairs(stream) == [("1", "4"), ("2", "5"), ("1", "6")]
    if "map" not in options.values():
        assert stream.node_ids is None


def test_integers_beyond_int64_are_mapped_as_texts(run_import, tmp_path):
    large = [2**63, 2**64 - 1, 5]
    file = parquet(tmp_path / "x.parquet", pa.array(large, pa.uint64()), pa.array([1, 2, 3]))
    for ids in ("auto", "map"):
        stream = run_import(file, ids=ids, force=True).stream
        assert [src for src, _ in pairs(stream)] == [str(one) for one in large]


def test_negative_integers_are_mapped_as_integers(run_import, tmp_path):
    stream = run_import(parquet(tmp_path / "x.parquet", [5, -1], [1, 5])).stream
    assert stream.raw_ids([0, 1, 2]).tolist() == [5, 1, -1]


def test_uuids_are_texts(run_import, tmp_path):
    ids = [uuid.UUID(int=place) for place in range(4)]
    file = parquet(tmp_path / "x.parquet", pa.array(ids[:2], pa.uuid()), pa.array(ids[2:]))
    assert pairs(run_import(file).stream) == [
        (str(ids[0]), str(ids[2])),
        (str(ids[1]), str(ids[3])),
    ]


@pytest.mark.parametrize("ids", ["auto", "map", "keep"])
def test_floats_that_may_stand_for_several_ids(ids, run_import, tmp_path, out_entries):
    file = parquet(tmp_path / "x.parquet", pa.array([1.0, 1.5e18]), pa.array([2, 3]))
    message = "row 1: src holds floating-point numbers of 2**53 and more, which may each stand for"
    with pytest.raises(DataError, match=re.escape(message)):
        run_import(file, ids=ids)
    assert out_entries() == []


def test_numbers_far_beyond_their_count_are_mapped(run_import, tmp_path):
    rows = [(str(phone), str(PHONES[0])) for phone in PHONES]
    result = run_import(csv(*rows))
    assert pairs(result.stream) == rows
    assert result.stream.num_nodes == len(PHONES)
    assert any("they go up to 491,500,000,005" in note for note in result.notes)
    file = parquet(tmp_path / "x.parquet", PHONES, PHONES[::-1])
    assert run_import(file, force=True).stream.raw_ids([0]).tolist() == [PHONES[0]]


def test_numbers_of_few_nodes_are_kept(run_import):
    """Account numbers in the millions of a few accounts, and as many events as would fill them."""
    rows = [(str(5_000_000 + i % 9), str(i % 10)) for i in range(400)]
    assert run_import(csv(*rows)).stream.num_nodes == 19
    rows = [(str(900_000 + i % 9), str(i % 10)) for i in range(400)]
    assert run_import(csv(*rows), force=True).stream.num_nodes == 900_009


@pytest.mark.parametrize("bipartite", [False, True])
def test_kept_numbers_that_no_memory_holds(bipartite, run_import, out_entries):
    rows = [(str(phone), "1") for phone in PHONES]
    message = (
        r"events\.csv: rows for 491,500,000,00\d node numbers take at least [\d,.]+ GiB .*--ids map"
    )
    with pytest.raises(DataError, match=message):
        run_import(csv(*rows), ids="keep", bipartite=bipartite)
    assert out_entries() == []


@pytest.mark.parametrize("space", [" ", "\t ", "\u00a0", "\u3000", "\ufeff", "\u200b"])
def test_white_space_around_ids_is_no_part_of_them(space, run_import):
    text = f"src, dst,t \nbob,{space}ann,1\nann{space},bob,2\n{space}bob{space},ann,3\n"
    result = run_import(text)
    assert pairs(result.stream) == [("bob", "ann"), ("ann", "bob"), ("bob", "ann")]
    assert "white space around 3 ids removed, first at" in " ".join(result.notes)
    numbers = run_import(f"src,dst,t\n1,{space}2,1\n2,1,{space}2\n", force=True)
    assert numbers.stream.dst.tolist() == [2, 1]
    assert numbers.stream.node_ids is None


def test_blanks_before_quotes(run_import):
    text = 'src, "dst", "t"\n"bob", "ann", "1"\n ann, "b ""x""" ,2\n"bob" ,"ann",3\n'
    result = run_import(text)
    assert pairs(result.stream) == [("bob", "ann"), ("ann", 'b "x"'), ("bob", "ann")]
    assert pairs(run_import('src,dst,t\n"""a""",b,1\n', force=True).stream) == [('"a"', "b")]


def test_white_space_of_parquet_columns(run_import, tmp_path):
    file = parquet(tmp_path / "x.parquet", ["a ", "b"], [" c", "a"])
    assert pairs(run_import(file).stream) == [("a", "c"), ("b", "a")]


@pytest.mark.parametrize("used", [range(2_000), range(0, 2_000, 2), range(0, 2_000, 4)])
def test_the_note_on_unused_ids_is_true(used, run_import):
    ids = [1 + place for place in used]
    half = len(ids) // 2
    rows = list(zip(map(str, ids[:half]), map(str, ids[half:]), strict=True))
    notes = " ".join(run_import(csv(*rows), ids="keep").notes)
    assert ("most of the" in notes) == (2 * len(ids) < max(ids) + 1)


def test_mapped_ids_are_never_guessed_bipartite(run_import):
    """A star: all sources, one, come before all destinations."""
    star = run_import(csv(*(("hub", f"i{place}") for place in range(20))))
    assert star.stream.num_sources is None
    assert any("is the stream --bipartite?" in note for note in star.notes)
    kept = run_import(csv(*(("0", str(1 + place)) for place in range(20))), force=True)
    assert kept.stream.num_sources == 1


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("007", "007"),
        (" u1\n", "u1"),
        (7, 7),
        (np.int32(7), 7),
        (7.0, 7),
        (np.float32(7), 7),
        (2**70, 2**70),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    ],
)
def test_a_single_id(value, parsed):
    found = parse_id(value, "src")
    assert (found, type(found)) == (parsed, type(parsed))


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        b"a",
        0.5,
        2.0**53,
        np.float32(2**24),
        float("nan"),
        float("inf"),
        "",
        " ",
        "\ud800",
    ],
)
def test_what_is_no_id(value):
    with pytest.raises(DataError, match=r"^src "):
        parse_id(value, "src")


@pytest.mark.parametrize("beside", [[], ["x", None]])
def test_one_rule_for_columns_and_single_ids(beside):
    texts = ["0", "7", "-7", "007", "-0", "+7", "1_0", "\u0667", "7.0", "1e3", "0x7", "--7", "1 0"]
    texts += [
        str(2**63 - 1),
        str(2**63),
        str(-(2**63)),
        str(-(2**63) - 1),
        "9" * 30,
        "-" + "9" * 30,
    ]
    column = id_column(pa.array([*texts, *beside]), "src", str, missing=True)
    values, are_integers = integers_of(column)
    for text, value, is_integer in zip(texts, values, are_integers, strict=False):
        assert canonical_integer(text) == (value if is_integer else None)
    assert not are_integers[len(texts) :].any()
