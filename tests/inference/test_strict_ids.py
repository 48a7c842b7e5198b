"""Ids that are asked for are parsed as strictly as those that were imported."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pres_dist.cli.main import main
from pres_dist.errors import DataError
from pres_dist.events.lookup import UNKNOWN, NodeLookup
from pres_dist.events.stream import EventStream
from pres_dist.inference.embeddings import find_nodes
from pres_dist.inference.read_pairs import nodes_of, pairs_of
from pres_dist.inference.run import Run
from pres_dist.inference.serve.names import NodeNames

ODD = ["1_0", "\u0661", "01", "+1", "1.0", "1e0", "-1", "0x1", "1 0", str(2**64 + 1)]


@pytest.fixture
def stream() -> EventStream:
    return EventStream.from_arrays(range(12), range(12), range(12), name="s")


@pytest.mark.attack(
    "ids as text in a stream of integers: `1_0`, digits of other scripts, `01`, `1.0`",
    before="`1_0` was node 10 and an Arabic one node 1: scored and taken in",
    after="an error that quotes the id, wherever ids come in",
)
@pytest.mark.parametrize("odd", ODD)
def test_texts_that_are_no_integers(odd: str, stream: EventStream) -> None:
    lookup, names = NodeLookup(stream), NodeNames(stream)
    with pytest.raises(DataError, match=re.escape(f"got {odd!r}")):
        find_nodes(lookup, [odd], ["--src"])
    with pytest.raises(DataError, match=re.escape("p.csv:0: src must be one of the nodes 0 to 11")):
        nodes_of(lookup, pa.array([odd]), "src", "source", lambda row: f"p.csv:{row}")
    for ask in (names.find, names.check):
        with pytest.raises(DataError, match=r"^src must be "):
            ask(odd, "source", "src")


@pytest.mark.parametrize("one", ["1", " 1\n", 1, 1.0, np.int8(1), np.float32(1)])
def test_the_same_id_however_it_is_given(one: object, stream: EventStream) -> None:
    assert find_nodes(NodeLookup(stream), [one], ["--src"]).tolist() == [1]
    assert NodeNames(stream).find(one, "source", "src") == 1
    column = pa.array([one])
    assert nodes_of(NodeLookup(stream), column, "src", "source", str).tolist() == [1]


def test_missing_and_unknown_ids_of_a_file(stream: EventStream) -> None:
    lookup = NodeLookup(stream)
    column = pa.array(["1", None, " ", "99", "2"])
    with pytest.raises(DataError, match="1: src is missing"):
        nodes_of(lookup, column, "src", "source", str)
    skipped = nodes_of(lookup, column, "src", "source", str, "skip")
    assert skipped.tolist() == [1, UNKNOWN, UNKNOWN, UNKNOWN, 2]
    for bad in ([1.5], [2.0**53]):
        with pytest.raises(DataError, match="0: src"):
            nodes_of(lookup, pa.array(bad), "src", "source", str, "skip")


def test_commands_and_python(tgn_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tgn_run)
    for odd in ("1_0", "01"):
        assert main(["recommend", str(tgn_run), "--src", odd]) == 2
        assert f"got '{odd}'" in capsys.readouterr().err
        with pytest.raises(DataError, match=f"src must be one of the sources .* got '{odd}'"):
            run.score([(odd, 41)])
    mixed = pairs_of(run._live, [("1", 41), (1, "41"), (np.int64(1), 41.0)], run._live.latest)
    assert mixed.src.tolist() == [1, 1, 1]
    assert mixed.dst.tolist() == [41, 41, 41]
