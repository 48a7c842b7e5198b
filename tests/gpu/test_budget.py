"""Operations and waits of a training step on a GPU, pinned by stage.

A wait costs tens of microseconds in which the GPU runs dry, an operation about ten of the host. A
change that adds one fails here, and the message lists the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from pres_dist.config.run import RunConfig
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.mail import pending_events
from pres_dist.training import step
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assembled
from pres_dist.training.trainer import Trainer
from tests.gpu.counting import Counts, counted
from tests.support.small_run import small_config


@dataclass(frozen=True)
class Budget:
    """Largest cost of a step.

    Attributes:
        settings: of the run.
        waits: the waits by stage, exactly.
        operations: most operations by stage; None if only waits are pinned.
    """

    settings: dict[str, object]
    waits: dict[str, int]
    operations: dict[str, int] | None = None


ONE_EACH = {"sample": 1, "optimizer": 1, "push": 1}
"""Numbers of nodes that are read and written, and whether the step is finite."""

BUDGETS = {
    "default": Budget(
        {},
        ONE_EACH,
        {
            "sample": 248,
            "pull": 9,
            "update": 77,
            "embed": 80,
            "loss": 32,
            "backward": 152,
            "all_reduce": 2,
            "optimizer": 35,
            "push": 48,
            "other": 29,
        },
    ),
    "paper": Budget({"preset": "paper"}, ONE_EACH | {"push": 2}),
    "paper, embeddings": Budget(
        {"preset": "paper", "model__decoder": "embeddings", "sampling__negatives": "random"},
        ONE_EACH | {"push": 2},
        {
            "sample": 79,
            "pull": 11,
            "update": 44,
            "embed": 41,
            "loss": 26,
            "backward": 121,
            "all_reduce": 2,
            "optimizer": 35,
            "push": 77,
            "other": 30,
        },
    ),
    "dyrep": Budget({"model__kind": "dyrep"}, ONE_EACH),
    "apan": Budget({"model__kind": "apan"}, {"sample": 7, "optimizer": 1, "push": 5}),
    "held-out nodes": Budget({"data__held_out_share": 0.1}, ONE_EACH),
    "without a prediction": Budget({"pres__prediction": "false"}, ONE_EACH),
    "popular": Budget({"sampling__negatives": "random, popular"}, ONE_EACH),
    "several optimizer steps": Budget(
        {"training__events_per_step": 50},
        {"sample": 3, "optimizer": 2, "other": 2, "push": 5},
    ),
}


@contextmanager
def stepping(config: RunConfig, device: torch.device) -> Iterator[Callable[[int], Counts]]:
    """Train two steps; yield a function that trains and counts a later one."""
    with assembled(config, device, World()) as parts:
        trainer = Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())
        parts.model.train()

        def run(number: int) -> Counts:
            with counted(parts.clock) as counts:
                for inputs in trainer.step.prefetch.steps([StepIndex(1, number)]):
                    trainer._train_step(inputs, mock.Mock())
            return counts

        with mock.patch.object(Trainer, "_report"):  # which reads the loss, now and then
            run(0)
            run(1)
            yield run


def over(counts: Counts, budget: Budget) -> str:
    """Describe what exceeds the budget, or return an empty string."""
    found = counts.num_waits()
    if found != budget.waits or any(note.kind == "copy" for note in counts.waits):
        return f"waits {found}, allowed {budget.waits} and no copy:\n{counts.listed()}"
    allowed, operations = budget.operations, counts.operations()
    if allowed is None:
        return ""
    more = {stage: num for stage, num in operations.items() if num > allowed.get(stage, 0)}
    return f"operations {more}, allowed {allowed}" if more else ""


@pytest.mark.parametrize("name", BUDGETS)
def test_a_training_step_stays_within_its_budget(
    name: str, habits: Path, sim: torch.device
) -> None:
    budget = BUDGETS[name]
    with stepping(small_config(habits)(**budget.settings), sim) as run:
        assert not over(run(2), budget)


PLANTED: dict[str, tuple[str, Callable[[Tensor], object]]] = {
    "value": ("_local_scalar_dense", lambda values: float(values.sum())),
    "size": ("nonzero", lambda values: values.nonzero()),
    "copy to the device": ("kind='copy'", lambda values: torch.arange(3).to(values)),
    "copy to the host": ("kind='copy'", lambda values: values.cpu()),
    "operation": ("operations {'other'", lambda values: values + 1),
}


def test_planted_faults_are_found(
    habits: Path, sim: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted: list[Callable[[Tensor], object]] = []

    def with_faults(batch: TemporalBatch, adjacency: TemporalAdjacency) -> Tensor:
        for plant in planted:
            plant(batch.src_B)
        return pending_events(batch, adjacency)

    monkeypatch.setattr(step, "pending_events", with_faults)
    with stepping(small_config(habits)(training__batch_size=40), sim) as run:
        clean = run(2)
        budget = Budget({}, clean.num_waits(), clean.operations())
        assert not over(clean, budget)
        for number, (expected, plant) in enumerate(PLANTED.values(), start=3):
            planted[:] = [plant]
            assert expected in over(run(number), budget)
