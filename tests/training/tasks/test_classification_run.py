"""Classification from configuration to results, in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, DataError
from pres_dist.evaluation.scoring import classify
from pres_dist.events.stream import EventStream
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink, read_metrics
from pres_dist.report.progress import Progress
from pres_dist.report.result_tables import results_rows
from pres_dist.training.checkpoint import BEST
from pres_dist.training.evaluate_run import evaluate_run
from pres_dist.training.run import resume, train
from pres_dist.training.setup import assemble, load_data
from pres_dist.training.trainer import Trainer
from tests.support.small_run import MakeConfig, labelled_stream, saved_state, train_until
from tests.support.states import assert_same

FEW_STEPS = {"task__missing_label": -1, "training__optimizer": "adamw"}
EDGES = {"task__kind": "edge_classification", **FEW_STEPS}
NODES = {"task__kind": "node_classification", **FEW_STEPS}


@pytest.mark.parametrize("kind", [EDGES, NODES], ids=["edges", "nodes"])
def test_labels_are_learned_and_reported(
    make_config: MakeConfig, tmp_path: Path, kind: dict[str, object]
) -> None:
    results = train(make_config(**kind, training__epochs=4), tmp_path / "run")
    test, baselines = results["test"], results["test"]["baselines"]
    assert results["classes"] == [0, 1, 2]
    assert test["accuracy"] > 0.8
    assert baselines["class prior"]["accuracy"] < 0.5
    assert ("label frequency of pair" in baselines) == (kind is EDGES)
    assert 180 < test["num_events"] < 225  # one in ten has no label
    epochs = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "epoch"]
    assert epochs[-1]["label_loss"] < epochs[0]["label_loss"]
    best = [epoch["validation"]["macro_f1"] for epoch in epochs]
    assert results["best_epoch"] == best.index(max(best)) + 1
    rows = results_rows(results)
    assert rows[0][:5] == ["", "AP", "AUC", "accuracy", "macro F1"]
    assert [row[0] for row in rows[1:]] == ["validation", "test", *baselines]
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(page.count(f"<th>{name}</th>") == 2 for name in baselines)  # of both parts
    assert page.count("<th>macro F1</th>") == 2  # of all events, and of unseen nodes
    again = evaluate_run(tmp_path / "run", make_config().evaluation)
    assert again["test"] == test


def test_a_feature_that_equals_the_label_is_no_use_unless_asked_for(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    planted = {**EDGES, "data__stream": tmp_path / "planted", "training__epochs": 6}
    hidden = train(make_config(**planted), tmp_path / "hidden")["test"]
    shown = train(make_config(**planted, task__own_features=True), tmp_path / "shown")["test"]
    assert shown["accuracy"] > 0.99
    assert 0.42 < hidden["auc"] < 0.58  # 225 events: a deviation of about 0.03 around chance


def test_scores_do_not_depend_on_labels_of_validation_and_test(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    stream = EventStream.open(tmp_path / "labelled")
    labels = np.array(stream.labels)
    labels[1050:] = labels[1050:][::-1]
    replace(stream, labels=labels).save(tmp_path / "others")
    balanced = {**EDGES, "task__class_weights": "balanced"}
    logits = [
        _logits_after_an_epoch(make_config(**balanced, data__stream=tmp_path / name))
        for name in ("labelled", "others")
    ]
    assert np.array_equal(*logits)


def _logits_after_an_epoch(config: RunConfig) -> np.ndarray:
    parts = assemble(config, load_data(config, torch.device("cpu")))
    _train_epoch(parts)
    sweep = parts.evaluation_loader(range(1050, 1500), 50)
    return classify(parts.evaluation_pipeline, sweep, 3, World())


def _train_epoch(parts: Any) -> None:
    trainer = Trainer(parts, None, MetricsSink(), Progress())  # type: ignore[arg-type]
    trainer._save = lambda: None  # type: ignore[method-assign]
    trainer._train_epoch()


def test_labels_alone_need_no_negatives(make_config: MakeConfig, tmp_path: Path) -> None:
    results = train(make_config(**EDGES, task__link_weight=0), tmp_path / "run")
    assert results["test"]["num_events"] > 0
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert all("link_loss" not in record for record in records)
    assert all("label_loss" in record for record in records if record["kind"] == "step")


def test_a_resumed_run_ends_in_the_same_bits(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(**EDGES, training__checkpoint_every=3, model__dropout=0.1)
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "broken", step=14)
    assert_same(resume(tmp_path / "broken"), whole, "results")
    assert_same(*(saved_state(tmp_path / name)["model"] for name in ("whole", "broken")))


def test_a_frozen_encoder_keeps_its_weights_and_only_the_classifier_learns(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    train(make_config(model__dropout=0.2, training__optimizer="adamw"), tmp_path / "links")
    frozen = {**EDGES, "task__pretrained": tmp_path / "links", "training__weight_decay": 0.1}
    config = make_config(**frozen, model__dropout=0.2, training__epochs=3)
    results = train(config, tmp_path / "run")
    before, after = (saved_state(tmp_path / name, BEST)["model"] for name in ("links", "run"))
    assert before.keys() < after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert results["test"]["accuracy"] > 0.6
    assert evaluate_run(tmp_path / "run", config.evaluation)["test"] == results["test"]


def test_a_frozen_encoder_must_fit(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(training__epochs=1), tmp_path / "links")
    frozen = make_config(**EDGES, task__pretrained=tmp_path / "links", data__train_share=0.5)
    expected = r"task.pretrained: data.train_share must be that of .*links, 0.7, got 0.5"
    with pytest.raises(ConfigError, match=expected):
        train(frozen, tmp_path / "run")
    with pytest.raises(ConfigError, match="not the folder of a run"):
        train(make_config(**EDGES, task__pretrained=tmp_path / "nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stream_without_labels_leaves_no_folder(make_config: MakeConfig, tmp_path: Path) -> None:
    replace(labelled_stream(), labels=None).save(tmp_path / "bare")
    with pytest.raises(DataError, match=r"task\.kind edge_classification needs a stream with"):
        train(make_config(**EDGES, data__stream=tmp_path / "bare"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_positives_in_validation_the_newest_epoch_is_the_best(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    stream = labelled_stream()
    labels = (stream.dst % 2).copy()
    labels[1050:1275] = 0
    replace(stream, labels=labels).save(tmp_path / "rare")
    config = make_config(task__kind="node_classification", data__stream=tmp_path / "rare")
    results = train(config, tmp_path / "run")
    assert "auc" not in results["validation"]
    assert results["best_epoch"] == 2
    assert results["test"]["auc"] > 0
