"""Calls of a run: a wrong one is one error that names the argument, and right ones agree."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import pres_dist
from pres_dist.errors import PresDistError
from pres_dist.inference.run import Run


@pytest.fixture(scope="module")
def run(runs: Path) -> Run:
    from tests.support.trained_runs import trained

    return pres_dist.load_run(trained(runs))


NOW = datetime.now(timezone.utc)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.embed(nodes="u1"), "nodes must be a list of ids, got 'u1'"),
        (lambda run: run.embed(nodes={"u1": 1}), "nodes must be a list of ids, got dict"),
        (lambda run: run.embed(nodes=7), "nodes must be a list of ids, got 7"),
        (lambda run: run.embed(nodes=[1, None]), r"nodes\[1\] must be an integer or a text"),
        (lambda run: run.embed(nodes=[1.5]), r"nodes\[0\] must be an integer or a text, got 1.5"),
        (lambda run: run.embed(nodes=[True]), r"nodes\[0\] must be an integer or a text, got True"),
        (lambda run: run.embed(nodes=[[1]]), r"nodes\[0\] must be an integer or a text"),
        (lambda run: run.embed(nodes=["\ud800"]), r"nodes\[0\] must be valid Unicode text"),
        (lambda run: run.embed(nodes=[10**30]), r"nodes\[0\]: a node must be one of"),
        (lambda run: run.embed(side="left"), "side must be one of None, 'source', 'destination'"),
        (lambda run: run.embed(side="source"), "side is for nodes, which are not given"),
        (lambda run: run.embed(node=[1]), r"embed\(\): got an unexpected keyword argument 'node'"),
        (lambda run: run.embed(1, [1], "source", 4), r"embed\(\): too many positional arguments"),
        (lambda run: run.embed(at=True), "at: time must be a whole number, got True"),
        (lambda run: run.embed(at=[1]), "at: time must be a whole number, got "),
        (lambda run: run.embed(at=NOW), "at: time must be a whole number: the times of habits"),
        (lambda run: run.embed(at=2**70), "at: time must be .* in the range of int64"),
        (lambda run: run.embed(at=float("nan")), "at: time must be a whole number"),
        (lambda run: run.score(("u1", "i1")), r"pairs\[0\] must be a tuple .* got 'u1'"),
        (lambda run: run.score({"src": [1]}), "pairs must be a list of tuples .* got dict"),
        (lambda run: run.score("u1"), "pairs must be a list of tuples .* got 'u1'"),
        (lambda run: run.score([1, 41]), r"pairs\[0\] must be a tuple .* got 1"),
        (lambda run: run.score([(1, 41), (1,)]), r"pairs\[1\] must be \(src, dst\)"),
        (lambda run: run.score([(1, 41), (1, 41, 2)]), r"pairs\[1\] must be \(src, dst\)"),
        (lambda run: run.score([(1, 41.5)]), "pair 0: dst must be an integer or a text, got 41.5"),
        (lambda run: run.score([(1, 41, None)]), "pair 0: t is missing"),
        (lambda run: run.score([(1, 41, "x")]), "pair 0: t must be a whole number"),
        (lambda run: run.score([(1, 41)], batched="yes"), "batched must be True or False"),
        (lambda run: run.score(pd.DataFrame({"src": [1]})), "column 'dst' is missing"),
        (lambda run: run.recommend(1.5), r"src\[0\] must be an integer or a text, got 1.5"),
        (lambda run: run.recommend([1.5]), r"src\[0\] must be an integer or a text"),
        (lambda run: run.recommend(True), r"src\[0\] must be an integer or a text, got True"),
        (lambda run: run.recommend(1, top="3"), "top must be an integer >= 1, got '3'"),
        (lambda run: run.recommend(1, top=True), "top must be an integer >= 1, got True"),
        (lambda run: run.recommend(1, exclude_seen=1), "exclude_seen must be True or False"),
        (lambda run: run.extend(5), "events must be a pandas DataFrame or an Arrow table, got int"),
        (lambda run: run.extend({"src": [1]}), "events must be .*, got dict"),
        (lambda run: run.extend("x.csv", {"src": "a"}), "columns must be EventColumns, got dict"),
        (lambda run: run.extend("x.csv", max_ahed=1), r"extend\(\): got an unexpected keyword"),
        (lambda run: run.export(3), "out must be a path, got 3"),
        (lambda run: run.evaluate_ranking("all"), "max_events must be an integer >= 1"),
        (lambda run: run.evaluate(color=1), "unknown setting 'evaluation__color'"),
        (lambda run: pres_dist.load_run(None), "path must be a path, got None"),
        (lambda run: pres_dist.load_run(run.path, replay="no"), "replay must be True or False"),
        (lambda run: pres_dist.train({"epochs": 1}), "config must be a RunConfig or the path"),
        (lambda run: pres_dist.train(stream=5), "stream must be a path, got 5"),
        (lambda run: pres_dist.train(run_dir=5), "run_dir must be a path, got 5"),
        (lambda run: pres_dist.train(progress=1), "progress must be True or False, got 1"),
        (lambda run: pres_dist.EventColumns(features="f0"), "features must be a list of names"),
        (lambda run: pres_dist.EventColumns(source="a"), r"EventColumns\(\): got an unexpected"),
        (lambda run: Run(run.path, replays=True), r"Run\(\): got an unexpected keyword"),
        (lambda run: pres_dist.ScoringService(3), "run_dir must be a path, got 3"),
        (lambda run: pres_dist.resume(None), "run_dir must be a path, got None"),
        (lambda run: pres_dist.evaluate_run(run.path, {}), "evaluation must be an Evaluation"),
        (lambda run: pres_dist.EventColumns(src=None), "src must be the name of a column"),
    ],
)
def test_wrong_calls(run: Run, call: Callable[[Run], Any], message: str) -> None:
    with pytest.raises(PresDistError, match=message):
        call(run)


def test_the_last_time_there_is(run: Run) -> None:
    assert run.embed(at=2**63 - 1, nodes=[1], side="source").time == 2**63 - 1


def test_ids_and_pairs_in_any_list(run: Run) -> None:
    expected = run.score([(1, 41), (2, 42)])
    table = {"src": [1, 2], "dst": [41, 42]}
    for pairs in (
        ((1, 41), (2, 42)),
        np.array([[1, 41], [2, 42]]),
        [["1", "41"], ["2", "42"]],
        (pair for pair in [(1, 41), (2, 42)]),
        pd.DataFrame(table),
        pa.table(table),
        pd.DataFrame(table).astype(">i8"),
    ):
        np.testing.assert_array_equal(run.score(pairs), expected)
    for nodes in (np.array([1, 2]), pd.Series([1, 2]), (1, np.int16(2)), pd.Index(["1", "2"])):
        np.testing.assert_array_equal(list(run.embed(nodes=nodes, side="source").ids), [1, 2])
    assert run.recommend(np.int64(1), top=np.int32(2)) == run.recommend([1], top=2)
