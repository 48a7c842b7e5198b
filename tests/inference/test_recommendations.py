"""Recommendations, and how they are measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError, DataError
from pres_dist.inference import pairs
from pres_dist.inference.run import Run
from tests.support.trained_runs import trained


@pytest.mark.parametrize("kind", ["tgn", "history"])
def test_the_models_order_is_that_of_scores(runs: Path, kind: str) -> None:
    run = Run(trained(runs, kind))
    t = int(run.stream.t[650])
    seen = run.stream.t < t
    destinations = sorted(set(run.stream.dst[seen].tolist()))
    found = run.recommend(7, top=100, at=t)
    scores = run.score([(7, dst) for dst in destinations], at=t)
    best = sorted(zip(-scores, destinations, strict=True))
    assert [one.dst for one in found] == [dst for _, dst in best]
    np.testing.assert_allclose([one.probability for one in found], sorted(scores)[::-1], atol=1e-6)
    assert [one.rank for one in found] == list(range(1, len(destinations) + 1))
    of_source = run.stream.dst[seen & (run.stream.src == 7)].tolist()
    assert [one.events for one in found] == [of_source.count(one.dst) for one in found]


def test_whom_a_source_has_met_can_be_left_out(tgn_run: Path) -> None:
    run = Run(tgn_run)
    found = run.recommend([3, 7], top=3, exclude_seen=True)
    assert all(one.events == 0 for one in found)
    assert {one.src for one in found} <= {3, 7}
    met = set(run.stream.dst[run.stream.src == 3].tolist())
    assert not met & {one.dst for one in found if one.src == 3}


def test_in_one_set_of_nodes_all_but_the_source_are_candidates(runs: Path) -> None:
    run = Run(trained(runs, "talk"))
    found = run.recommend(7, top=100)
    assert sorted(one.dst for one in found) == [node for node in range(20) if node != 7]
    both = np.stack([run.stream.src, run.stream.dst])
    met = both[:, (both == 7).any(0)]
    others = np.where(met[0] == 7, met[1], met[0]).tolist()
    assert all(one.events == others.count(one.dst) for one in found)
    assert len(run.embed()) == 20
    assert run.embed().sides is None
    assert run.evaluate_ranking()["candidates"] == "all 20 destinations"


def test_baselines_are_ranked_as_a_loop_ranks_them(tgn_run: Path) -> None:
    run = Run(tgn_run)
    results = run.evaluate_ranking()
    stream, split = run.stream, run._live.parts.data.split
    destinations = np.unique(stream.dst)
    assert results["candidates"] == f"all {len(destinations)} destinations"
    assert results["num_events"] == len(split.test)
    popular, last, new = [], [], []
    for event in split.test:
        end = int(np.searchsorted(stream.t, stream.t[event]))
        earlier, own = stream.dst[:end], stream.dst[:end][stream.src[:end] == stream.src[event]]
        counts = np.array([(earlier == dst).sum() for dst in destinations])
        latest = np.array([np.flatnonzero(own == dst).max(initial=-1) for dst in destinations])
        true = int(np.flatnonzero(destinations == stream.dst[event])[0])
        popular.append(rank(counts, true))
        last.append(rank(latest, true))
        new.append(stream.dst[event] not in own)
    assert results["num_new"] == sum(new)
    for name, ranks in (("most popular", popular), ("last destinations", last)):
        reciprocal = np.array([1 / mean for mean, _ in ranks])
        hit = np.array([share for _, share in ranks])
        row = results["ranked"][name]
        assert row["mrr"] == pytest.approx(reciprocal.mean())
        assert row["hit@10"] == pytest.approx(hit.mean())
        assert row["new_pairs"]["mrr"] == pytest.approx(reciprocal[new].mean())


def rank(scores: np.ndarray, true: int) -> tuple[float, float]:
    """Mean rank over all orders of ties, and the share of orders with a rank of 10 at most."""
    better, alike = (scores > scores[true]).sum(), (scores == scores[true]).sum()
    places = better + 1 + np.arange(alike)
    return float(places.mean()), float((places <= 10).mean())


def test_the_model_ranks_as_scores_at_each_time(tgn_run: Path) -> None:
    run = Run(tgn_run)
    results = run.evaluate_ranking()
    stream, split = run.stream, run._live.parts.data.split
    destinations = np.unique(stream.dst)
    reciprocal = []
    for event in split.test:
        t, src = int(stream.t[event]), int(stream.src[event])
        scores = run.score([(src, int(dst), t) for dst in destinations])
        true = int(np.flatnonzero(destinations == stream.dst[event])[0])
        reciprocal.append(1 / rank(scores, true)[0])
    # float32 may turn a near tie around.
    assert results["ranked"]["tgn, embeddings"]["mrr"] == pytest.approx(
        np.mean(reciprocal), abs=0.005
    )


def test_a_sample_has_about_so_many_events(tgn_run: Path) -> None:
    run = Run(tgn_run)
    some, all_of = run.evaluate_ranking(max_events=60), run.evaluate_ranking()
    assert 30 < some["num_events"] <= 60 < all_of["num_events"]


def test_the_command_shows_and_writes(
    tgn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", str(tgn_run), "--src", "7", "--top", "2"]) == 0
    assert "probability" in capsys.readouterr().out
    (tmp_path / "sources.txt").write_text("7\n3\n")
    command = ["recommend", str(tgn_run), "--sources", str(tmp_path / "sources.txt"), "--top", "2"]
    expected = Run(tgn_run).recommend([7, 3], top=2)
    for suffix in ("csv", "parquet", "json"):
        out = tmp_path / f"r.{suffix}"
        assert main([*command, "--out", str(out)]) == 0
        readers = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}
        found = readers[suffix](out)
        assert list(found.columns) == ["src", "rank", "dst", "probability", "events"]
        assert found["dst"].tolist() == [one.dst for one in expected]
        assert found["src"].tolist() == [7, 7, 3, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "recommend needs --src ID or --sources FILE"),
        (["--src", "99"], "--src: a node must be one of the sources 0 to 39 of habits, got '99'"),
        (["--src", "41"], "got '41'"),
        (["--src", "7", "--top", "0"], "--top must be an integer >= 1, got '0'"),
        (["--src", "7", "--out", "r.txt"], "must be a .csv, .csv.gz, .parquet or .json file"),
    ],
)
def test_a_mistake_is_one_error(
    tgn_run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", str(tgn_run), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_notebooks_mistakes(tgn_run: Path) -> None:
    with pytest.raises(DataError, match=r"src\[1\]: a node must be one of the sources"):
        Run(tgn_run).recommend([1, 99])
    with pytest.raises(ConfigError, match="top must be an integer >= 1, got 0"):
        Run(tgn_run).recommend(1, top=0)


def test_pairs_are_scored_in_blocks_where_the_decoder_reads_the_log(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = trained(runs, "history")
    found = Run(run_dir).recommend(3, top=5)
    monkeypatch.setattr(pairs, "_LOG_PAIRS", 4)  # in blocks of sources and of candidates
    again = Run(run_dir).recommend(3, top=5)
    assert [one.dst for one in again] == [one.dst for one in found]
    chances = [one.probability for one in found]
    assert [one.probability for one in again] == pytest.approx(chances, abs=1e-6)
