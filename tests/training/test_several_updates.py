"""Several optimizer steps over one temporal batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink, read_metrics
from pres_dist.report.progress import Progress
from pres_dist.training.checkpoint import Checkpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.run import train
from pres_dist.training.setup import assemble, choose_device, load_data
from pres_dist.training.step import StepResult
from pres_dist.training.step_sizes import learning_rate, updates_of_batch
from pres_dist.training.trainer import Trainer
from tests.support.small_run import MakeConfig

STILL = 1e-12
"""A learning rate at which weights do not move."""


def _first_steps(config: RunConfig, tmp_path: Path, steps: int) -> tuple[Trainer, list[StepResult]]:
    device = choose_device(config)
    parts = assemble(config, load_data(config, device), World())
    trainer = Trainer(parts, Checkpoints(tmp_path), MetricsSink(), Progress())
    indices = [StepIndex(1, number) for number in range(steps)]
    done = [trainer.step.run(inputs) for inputs in trainer.step.prefetch.steps(indices)]
    return trainer, done


def test_still_weights_see_the_same_events_and_write_the_same_memory(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    still = partial(make_config, training__learning_rate=STILL)
    whole, one = _first_steps(still(), tmp_path, 3)
    cut, several = _first_steps(still(training__events_per_step=30), tmp_path, 3)
    for once, often in zip(one, several, strict=True):
        assert len(once.updates) == 1
        assert len(often.updates) == 4
        sizes = torch.tensor([float(len(part)) for part in often.pending])
        losses = torch.stack([update.loss.link for update in often.updates])
        mean = (losses * sizes).sum() / sizes.sum()
        torch.testing.assert_close(mean, once.updates[0].loss.link)
        torch.testing.assert_close(
            torch.cat([p.view(2, -1) for p in often.pending], 1).flatten(), once.pending[0]
        )
    expected, actual = whole.parts.store.state_dict(), cut.parts.store.state_dict()
    for part, tables in expected.items():
        for name, table in tables.items():
            torch.testing.assert_close(actual[part][name], table, msg=f"{part}.{name}")


def test_the_last_weights_compute_what_is_written(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training__events_per_step=25)
    trainer, _ = _first_steps(config, tmp_path, 2)
    inputs = trainer.step.prepare(StepIndex(1, 2))
    done = trainer.step.run(inputs)
    with torch.no_grad():
        fresh = trainer.parts.train_pipeline.forward(inputs.plan, inputs.pulled, 0)
    endpoints = torch.unique(fresh.gathered.index_2B)
    nodes = fresh.gathered.nodes_U[endpoints]
    written = trainer.parts.store.pull(nodes).state.memory_UD
    torch.testing.assert_close(written, fresh.updated.memory_UD[endpoints])
    before = done.forwards[0].updated.memory_UD[endpoints]  # by weights that moved since
    assert (written - before).abs().max() > 100 * (
        written - fresh.updated.memory_UD[endpoints]
    ).abs().max()


def test_steps_as_large_as_the_batch_change_nothing(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    whole = train(make_config(), tmp_path / "whole")
    same = train(make_config(training__events_per_step=500), tmp_path / "same")
    assert whole["test"] == same["test"]


def test_records_count_optimizer_steps(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(training__events_per_step=25), tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    epochs = [record for record in records if record["kind"] == "epoch"]
    for record in epochs:
        assert record["optimizer_steps"] > 3 * record["step"]


@pytest.mark.parametrize(
    ("batch", "each", "events"), [(800, 0, 800), (800, 200, 200), (100, 200, 100)]
)
def test_the_learning_rate_follows_the_events_of_an_optimizer_step(
    make_config: MakeConfig, batch: int, each: int, events: int
) -> None:
    config = make_config(
        training__batch_size=batch,
        training__events_per_step=each,
        training__learning_rate_scaling="linear",
        training__learning_rate=0.001,
        training__scaling_base=50,
    ).training
    assert learning_rate(config, 0) == pytest.approx(0.001 * events / 50)


@pytest.mark.parametrize(
    ("optimizer", "batch", "expected"),
    [
        ("muon", 200, 0.01),
        ("muon", 3200, 0.01),
        ("muon", 12_800, 0.04),
        ("adamw", 50, 0.001),
        ("adamw", 200, 0.001),
        ("adamw", 3200, 0.004),
    ],
)
def test_learning_rates_of_the_defaults(optimizer: str, batch: int, expected: float) -> None:
    training = {"optimizer": optimizer, "batch_size": batch}
    config = RunConfig.model_validate({"data": {"stream": "x"}, "training": training}).training
    assert learning_rate(config, 0) == pytest.approx(expected)


@pytest.mark.parametrize(("each", "expected"), [(200, 16), (500, 7), (0, 1), (5000, 1)])
def test_a_batch_takes_as_many_steps_as_its_events_need(
    make_config: MakeConfig, each: int, expected: int
) -> None:
    assert updates_of_batch(make_config(training__events_per_step=each).training, 3200) == expected


@pytest.mark.parametrize(("decay", "quarter"), [("none", 1.0), ("linear", 0.75), ("cosine", 0.854)])
def test_the_learning_rate_falls_over_the_run(
    make_config: MakeConfig, decay: str, quarter: float
) -> None:
    config = make_config(training__learning_rate_decay=decay).training
    start, later = learning_rate(config, 0), learning_rate(config, 0, done=0.25)
    assert later / start == pytest.approx(quarter, abs=1e-3)


@pytest.mark.parametrize("each", [0, 25])
def test_a_run_ends_with_the_smallest_learning_rate(
    make_config: MakeConfig, tmp_path: Path, each: int
) -> None:
    config = make_config(training__learning_rate_decay="linear", training__events_per_step=each)
    train(config, tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    rates = [record["learning_rate"] for record in records if record["kind"] == "step"]
    assert rates == sorted(rates, reverse=True)
    steps = [record for record in records if record["kind"] == "epoch"][-1]["optimizer_steps"]
    assert 0 < rates[-1] < 2 * config.training.learning_rate / steps
