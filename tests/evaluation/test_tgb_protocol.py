"""MRR as the Temporal Graph Benchmark measures it: its evaluator, split and negatives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.evaluation import scoring as sweeps
from pres_dist.evaluation.metrics import reciprocal_ranks
from pres_dist.evaluation.scoring import score
from pres_dist.events.stream import EventStream
from pres_dist.parallel.world import World
from pres_dist.sampling.negatives import OfficialNegatives
from pres_dist.training.run import train
from pres_dist.training.setup import Parts, assemble, load_data
from tests.support.small_run import small_config
from tests.support.tgb_files import TgbFiles, tgb_files

CPU = torch.device("cpu")
EVALUATOR = "tgb.linkproppred.evaluate"
MISSING = "needs py-tgb: pip install 'pres-dist[tgb]'"


def official_stream(files: TgbFiles) -> EventStream:
    """The events with TGB's split and negatives."""
    first, second = (int(np.argmax(mask)) for mask in files.masks[1:])
    by_event = files.negatives[0] | files.negatives[1]
    rows = [
        by_event[key]
        for key in zip(files.src[first:], files.dst[first:], files.t[first:], strict=True)
    ]
    table = np.full((len(rows), max(map(len, rows))), -1)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    stream = EventStream.from_arrays(
        files.src, files.dst, files.t, num_sources=20, edge_features=files.features
    )
    return replace(stream, official_split=(first, second), negatives=table)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    path = tmp_path_factory.mktemp("tgb") / "wiki"
    official_stream(tgb_files()).save(path)
    make = small_config(path)
    return make(data__split="official", evaluation__negatives="tgb", training__epochs=1)


def scored_test_part(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n] of the test events and [n, M] of all their official negatives."""
    negatives = parts.evaluation_negatives(parts.config.evaluation)
    sweep = parts.evaluation_loader(parts.data.split.test, 50)
    scored = score(parts.evaluation_pipeline, sweep, negatives, negatives.num_slots(1), World())
    return torch.cat(scored.positive).numpy(), torch.cat(scored.negative).numpy()


def test_ranks_are_those_of_the_official_evaluator() -> None:
    evaluator = pytest.importorskip(EVALUATOR, reason=MISSING).Evaluator(name="tgbl-wiki")
    rng = np.random.default_rng(0)
    for levels in (3, 1000):
        positive = rng.integers(0, levels, 200).astype(np.float32)
        negative = rng.integers(0, levels, (200, 20)).astype(np.float32)
        ours = reciprocal_ranks(positive, negative)
        for event in range(200):
            official = evaluator.eval(
                {
                    "y_pred_pos": positive[event : event + 1],
                    "y_pred_neg": negative[event],
                    "eval_metric": ["mrr"],
                }
            )
            assert ours[event] == pytest.approx(official["mrr"], rel=1e-6)


def test_mrr_of_a_model_is_that_of_the_official_evaluator(config: RunConfig) -> None:
    """Over negatives that differ in number from event to event."""
    evaluator = pytest.importorskip(EVALUATOR, reason=MISSING).Evaluator(name="tgbl-wiki")
    parts = assemble(config, load_data(config, CPU))
    positive, negative = scored_test_part(parts)
    official = [
        evaluator.eval(
            {
                "y_pred_pos": positive[event : event + 1],
                "y_pred_neg": negative[event][np.isfinite(negative[event])],
                "eval_metric": ["mrr"],
            }
        )["mrr"]
        for event in range(len(positive))
    ]
    ours = reciprocal_ranks(positive, negative).mean()
    assert ours == pytest.approx(float(np.mean(official)), rel=1e-6)


def test_every_official_negative_is_scored_once(config: RunConfig) -> None:
    data = load_data(config, CPU)
    stream, split = data.stream, data.split
    negatives = OfficialNegatives(stream, split.train_end, 7, CPU)
    events = torch.arange(split.train_end, stream.num_events)
    dst, num = data.tables.dst_E[events], negatives.num_slots(3)
    assert num == 12
    drawn = negatives.sample(events, dst, events, num, 0)
    missing = negatives.missing(events, num)
    for row, gone, stored, true in zip(drawn, missing, stream.negatives, dst, strict=True):
        assert sorted(row[~gone].tolist()) == sorted(stored[stored >= 0].tolist())
        assert (row[gone] == true).all()
    assert torch.equal(negatives.sample(events, dst, events, 1, 0), drawn[:, :1])
    # The first one is drawn, not always the first of the file.
    firsts = (drawn[:, 0].numpy() == stream.negatives[:, 0]).mean()
    assert 0 < firsts < 0.5


def test_very_many_negatives_are_scored_in_pieces(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scored_test_part(assemble(config, load_data(config, CPU)))
    monkeypatch.setattr(sweeps, "_MOST_QUERIES", 40)
    pieces = scored_test_part(assemble(config, load_data(config, CPU)))
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_run_reports_official_negatives(config: RunConfig, tmp_path: Path) -> None:
    results = train(config, tmp_path / "run")
    test = results["test"]
    assert (results["negatives"], results["num_negatives"]) == ("tgb", 12)
    assert test["num_events"] == len(load_data(config, CPU).split.test)
    assert test["negatives_found"] == 1
    assert set(test["baselines"]) >= {"EdgeBank", "most popular"}
    # Among at most 12 negatives a rank cannot be worse than 13.
    assert all(of["mrr"] > 1 / 13 for of in test["baselines"].values())


def test_official_negatives_need_the_official_split(config: RunConfig, tmp_path: Path) -> None:
    shares = config.data.model_copy(update={"split": "shares"})
    other = config.model_copy(update={"data": shares})
    with pytest.raises(ConfigError, match=r"set data\.split to official"):
        train(other, tmp_path / "run")
    replace(official_stream(tgb_files()), official_split=None, negatives=None).save(tmp_path / "s")
    plain = config.data.model_copy(update={"split": "shares", "stream": str(tmp_path / "s")})
    with pytest.raises(ConfigError, match="needs a stream with TGB's negatives"):
        train(config.model_copy(update={"data": plain}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
