"""`pres-dist bench ranking`: models and baselines over the same events and candidates."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from pres_dist.cli.main import main
from pres_dist.inference import ranking
from pres_dist.inference.live import LiveRun
from pres_dist.inference.ranking import Baselines, CandidateSets, rank_run
from pres_dist.step.batches import batch_of
from tests.support.trained_runs import trained


def test_many_destinations_are_sampled_without_repeats(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "MOST_DESTINATIONS", 14)
    monkeypatch.setattr(ranking, "NEGATIVES", 6)
    live = LiveRun(trained(runs))
    sets = CandidateSets(live)
    assert str(sets) == "6 random and 6 historical destinations"
    batch = batch_of(live.pipeline.tables, torch.arange(700, 720))
    candidates = sets.of(batch)
    assert candidates.nodes_nC.shape == (20, 13)
    assert torch.equal(candidates.nodes_nC[:, 0], batch.dst_B)
    assert not candidates.hidden_nC[:, 0].any()
    assert candidates.hidden_nC.any()
    for nodes, hidden in zip(candidates.nodes_nC, candidates.hidden_nC, strict=True):
        assert len(set(nodes.tolist())) == int((~hidden).sum())
    assert 0 < rank_run(live, max_events=30)["ranked"]["EdgeBank"]["mrr"] < 1


def test_baselines_are_those_of_a_walk_over_the_events(
    tgn_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "RECENT_EVENTS", 30)
    live, event = LiveRun(tgn_run), 500
    popular, lately, latest = Counter[int](), Counter[int](), dict[tuple[int, int], int]()
    ends = zip(live.stream.src[:event].tolist(), live.stream.dst[:event].tolist(), strict=True)
    for number, (src, dst) in enumerate(ends):
        popular[dst] += 1
        lately[dst] += number >= event - 30
        latest[src, dst] = number
    sources, candidates = torch.arange(40), torch.arange(40, 55).expand(40, -1)
    scores = Baselines(live).scores(event, sources, candidates)
    pairs = [[(src, dst) for dst in range(40, 55)] for src in range(40)]
    expected = {
        "EdgeBank": [[pair in latest for pair in row] for row in pairs],
        "most popular": [[popular[dst] for _, dst in row] for row in pairs],
        "last destinations": [[latest.get(pair, -1) for pair in row] for row in pairs],
        "last destinations, then most popular": [
            [event + latest[pair] if pair in latest else popular[pair[1]] for pair in row]
            for row in pairs
        ],
        "most popular, last 30": [[lately[dst] for _, dst in row] for row in pairs],
    }
    assert {name: score.tolist() for name, score in scores.items()} == expected


def test_runs_stand_beside_baselines(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, file = [str(trained(runs, kind)) for kind in ("tgn", "history")], tmp_path / "r.json"
    command = ["bench", "ranking", *both, "--max-events", "20", "--json", str(file)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:8]] == [
        f"tgn, embeddings ({both[0]})",
        f"tgn, history ({both[1]})",
        "EdgeBank",
        "most popular",
        "last destinations",
        "last destinations, then most popular",
        "most popular, last 1,000",
    ]
    assert "among all 15 destinations" in lines[-1]
    assert len(json.loads(file.read_text())) == 2
    assert main(["bench", "ranking", both[0], str(trained(runs, "talk"))]) == 2
    assert "must be over one stream" in capsys.readouterr().err
