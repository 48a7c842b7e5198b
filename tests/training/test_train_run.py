"""A run from configuration to results, in one process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pres_dist.errors import CheckpointError, ConfigError, DataError
from pres_dist.events.stream import EventStream
from pres_dist.report.metrics_log import MetricsSink, read_metrics
from pres_dist.training import checkpoint, trainer
from pres_dist.training.checkpoint import BEST, NoCheckpoints
from pres_dist.training.evaluate_run import evaluate_run
from pres_dist.training.run import train
from pres_dist.training.setup import assemble, choose_device, load_data
from pres_dist.training.trainer import Trainer
from tests.support.small_run import MakeConfig, saved_state
from tests.support.states import epochs_of


def test_a_run_learns_and_leaves_everything_in_its_folder(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    results = train(make_config(training__epochs=8), tmp_path / "run")
    assert results["test"]["ap"] > 0.6  # chance is 0.5
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "results.json",
        "report.html",
        "checkpoints",
    }
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
    kinds = [record["kind"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert kinds.count("epoch") == 8
    assert kinds[-1] == "final"
    assert "step" in kinds


def test_copying_memory_counts_as_time_that_training_stood_still(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that runs 100 seconds ahead with every copy, and not otherwise."""
    copied, own_memory = [0], trainer.own_memory

    def copy(*arguments: Any) -> Any:
        copied[0] += 100
        return own_memory(*arguments)

    clock = SimpleNamespace(perf_counter=lambda: copied[0] + time.perf_counter() * 1e-6)
    monkeypatch.setattr(trainer, "own_memory", copy)
    monkeypatch.setattr(checkpoint, "time", clock)
    train(make_config(evaluation__baselines=False), tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    found = [record["checkpoints"] for record in records if record["kind"] == "epoch"]
    assert [round(each["blocked_seconds"]) for each in found] == [100, 100]


def test_epoch_records_say_what_pres_did(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(preset="paper"), tmp_path / "run")
    epochs = epochs_of(tmp_path / "run")
    for record in epochs:
        assert 0 < record["gate"] < 1
        assert -1 <= record["coherence"] <= 1
        assert record["prediction_error"] > 0
        assert record["persistence_error"] > 0
        assert 0 < record["pending_share"] <= 1
        assert record["pending_events_max"] >= record["pending_events_mean"] > 0
        assert record["events_per_second"] > 0
        assert set(record["stage_seconds"]) >= {"sample", "pull", "embed", "backward", "push"}


def test_without_pres_nothing_of_it_is_computed(make_config: MakeConfig) -> None:
    config = make_config(pres__prediction=False, pres__coherence_weight=0)
    parts = assemble(config, load_data(config, torch.device("cpu")))
    assert parts.model.correction is None
    assert parts.store.state_dict()["statistics"] == {}


@pytest.mark.parametrize(
    "overrides",
    [
        {"model__num_layers": 2},
        {"model__embedding": "sum", "model__updater": "rnn"},
        {"model__embedding": "identity", "model__aggregator": "mean", "memory__mailbox_slots": 3},
        {"model__embedding": "time", "model__message": "mlp", "model__message_dim": 5},
        {"model__aggregator": "sequential", "memory__mailbox_slots": 3},
        {"model__time_encoding": "learnable", "model__dropout": 0.2},
        {"sampling__strategy": "uniform", "sampling__num_negatives": 3},
        {"sampling__negatives": "historical", "evaluation__negatives": "inductive"},
        {"pres__clock": "time"},
        {"pres__components": 1, "pres__clock": "event"},
        {"pres__prediction": False},
        {"training__precision": "bf16"},
        {
            "training__optimizer": "adamw",
            "training__gradient_clip": 1.0,
            "training__warmup_steps": 5,
            "training__weight_decay": 0.1,
        },
        {"data__held_out_share": 0.2},
        {"evaluation__memory": "replay"},
        {"training__batch_size": 5000},
    ],
    ids=str,
)
def test_every_setting_trains(
    make_config: MakeConfig, tmp_path: Path, overrides: dict[str, object]
) -> None:
    """The loss of the second epoch is lower: an update that does nothing, or harm, is found."""
    train(make_config(evaluation__baselines=False, **overrides), tmp_path / "run")
    first, second = (epoch["loss"] for epoch in epochs_of(tmp_path / "run"))
    assert second < first


def test_evaluate_repeats_the_run_s_own_figures(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training__epochs=3)
    results = train(config, tmp_path / "run")
    again = evaluate_run(tmp_path / "run", config.evaluation)
    assert again["test"] == results["test"]
    assert again["validation"] == results["validation"]
    assert again["best_epoch"] == results["best_epoch"]


def test_evaluation_leaves_the_checkpoint_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training__epochs=1)
    train(config, tmp_path / "run")
    before = saved_state(tmp_path / "run", BEST)
    evaluate_run(tmp_path / "run", config.evaluation)
    after = saved_state(tmp_path / "run", BEST)
    for name, rows in before["store"]["rows"].items():
        assert torch.equal(rows, after["store"]["rows"][name])


def test_validation_does_not_touch_transition_statistics(make_config: MakeConfig) -> None:
    config = make_config()
    parts = assemble(config, load_data(config, torch.device("cpu")))
    trainer = _trainer_without_files(parts)
    trainer._train_epoch()
    before = {k: v.clone() for k, v in parts.store.state_dict()["statistics"].items()}
    assert before["count"].sum() > 0
    trainer._validate()
    for name, sums in parts.store.state_dict()["statistics"].items():
        assert torch.equal(sums, before[name]), name


def test_training_does_not_see_held_out_nodes(make_config: MakeConfig) -> None:
    config = make_config(data__held_out_share=0.3)
    data = load_data(config, torch.device("cpu"))
    parts = assemble(config, data)
    trainer = _trainer_without_files(parts)
    trainer._train_epoch()
    hidden = torch.from_numpy(data.split.held_out)
    rows = parts.store.state_dict()["rows"]
    assert (rows["mail_count_U"][hidden] == 0).all()
    assert (rows["memory_UD"][hidden] == 0).all()
    histories = parts.train_pipeline.sampler.adjacency
    end = torch.full_like(hidden, data.split.train_end)
    start_Q, end_Q = histories.history(hidden, end)
    assert torch.equal(start_Q, end_Q)


def test_patience_stops_early_and_keeps_the_best(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training__epochs=30, training__patience=2, training__learning_rate=0.03)
    results = train(config, tmp_path / "run")
    epochs = epochs_of(tmp_path / "run")
    aps = [record["validation"]["ap"] for record in epochs]
    assert len(epochs) < 30
    assert results["best_epoch"] == aps.index(max(aps)) + 1 == len(aps) - 2
    assert results["validation"]["ap"] == max(aps)


def test_a_stream_that_cannot_be_used_leaves_no_folder(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        train(make_config(data__stream=tmp_path / "nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_other_events_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training__epochs=1)
    train(config, tmp_path / "run")
    stream = EventStream.open(config.data.stream)
    stream.head(1400).save(config.data.stream, force=True)
    with pytest.raises(CheckpointError, match=r"number of events \(1500 in the run, got 1400\)"):
        evaluate_run(tmp_path / "run", config.evaluation)


def test_an_impossible_device_is_one_clear_error(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"training\.device must be"):
        choose_device(make_config(training__device="quantum"))


def _trainer_without_files(parts: object) -> Trainer:
    from pres_dist.report.progress import Progress

    return Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())  # type: ignore[arg-type]


def test_the_share_of_negatives_of_the_kind_asked_for_is_told(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(training__epochs=1)
    results = train(config, tmp_path / "run")
    assert results["test"]["negatives_found"] == 1
    inductive = config.evaluation.model_copy(update={"negatives": "inductive"})
    found = evaluate_run(tmp_path / "run", inductive)["test"]["negatives_found"]
    assert 0 < found < 1  # most pairs of the test split were met in training
    historical = config.evaluation.model_copy(update={"negatives": "historical"})
    found = evaluate_run(tmp_path / "run", historical)["test"]["negatives_found"]
    assert 0.5 < found <= 1
