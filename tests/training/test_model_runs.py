"""Runs of each model: what they report, resumed to the last bit, evaluated again by replay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.report.html import report_content
from pres_dist.training.checkpoint import BEST, LATEST
from pres_dist.training.evaluate_run import evaluate_run
from pres_dist.training.run import resume, train
from tests.support.small_run import MakeConfig, saved_state, train_until
from tests.support.states import assert_same

KINDS = ["jodie", "dyrep", "tgat"]


@pytest.fixture(params=KINDS)
def config(make_config: MakeConfig, request: pytest.FixtureRequest) -> RunConfig:
    return make_config(
        model__kind=request.param,
        model__dropout=0.1,
        training__checkpoint_every=3,
        training__weight_decay=0.01,
        data__max_events=600,
    )


def test_a_resumed_run_ends_in_the_same_bits(config: RunConfig, tmp_path: Path) -> None:
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "broken", step=8)
    resumed = resume(tmp_path / "broken")
    assert_same(resumed, whole, "results")
    for which in (LATEST, BEST):
        left, right = (saved_state(tmp_path / run, which) for run in ("whole", "broken"))
        for part in ("model", "store"):
            assert_same(left[part], right[part], part)


def test_a_run_says_which_model_it_is_and_can_be_evaluated_by_replay(
    config: RunConfig, tmp_path: Path
) -> None:
    results = train(config, tmp_path / "run")
    assert results["model"] == config.model.kind
    facts = dict(report_content(tmp_path / "run")["facts"])
    assert facts["model"] == config.model.kind
    replaying = config.evaluation.model_copy(update={"memory": "replay"})
    replayed = evaluate_run(tmp_path / "run", replaying)
    assert replayed["model"] == config.model.kind
    assert replayed["test"]["num_events"] == results["test"]["num_events"]
    # The weights are those of the end in every batch of the replay, and nearly so in training.
    assert replayed["test"]["ap"] == pytest.approx(results["test"]["ap"], abs=0.02)
    # Without a memory there is nothing to replay, and nothing is kept.
    same = replayed["test"] == results["test"]
    store = saved_state(tmp_path / "run")["store"]
    assert same == (not config.model.has_memory) == (not store["rows"])


def test_attention_of_messages_is_no_part_of_training(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """Mail has no gradient: not even weight decay may move what makes it."""
    config = make_config(
        model__kind="dyrep", training__weight_decay=0.1, training__epochs=1, data__max_events=600
    )
    train(config, tmp_path / "run")
    trained = saved_state(tmp_path / "run")["model"]
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"learning_rate": 1e-30})}
    )
    train(config, tmp_path / "still")
    drawn = saved_state(tmp_path / "still")["model"]
    names = [name for name in drawn if name.startswith("message_embedding")]
    assert names
    assert all(torch.equal(trained[name], drawn[name]) for name in names)
    assert not torch.equal(trained["decoder.out.weight"], drawn["decoder.out.weight"])
