"""Operations and waits of a training step on a GPU, pinned by stage.

A wait costs tens of microseconds in which the GPU runs dry, an operation about ten of the host. A
change that adds one fails here, and the message lists the lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch

from pres_dist.config.run import RunConfig
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assembled
from pres_dist.training.trainer import Trainer
from tests.gpu.counting import Counts, counted
from tests.support.small_run import small_config


@dataclass(frozen=True)
class Budget:
    """What a step may cost.

    Attributes:
        settings: of the run.
        waits: the waits by stage, exactly.
        operations: most operations by stage; None if only waits are pinned.
    """

    settings: dict[str, object]
    waits: dict[str, int]
    operations: dict[str, int] | None = None


BUDGETS: dict[str, Budget] = {}


def counts_of_step(config: RunConfig, device: torch.device) -> Counts:
    """Train two steps, and count the third."""
    with assembled(config, device, World()) as parts:
        trainer = Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())
        parts.model.train()

        def step(number: int) -> None:
            for inputs in trainer.step.prefetch.steps([StepIndex(1, number)]):
                trainer._train_step(inputs, mock.Mock())

        with mock.patch.object(Trainer, "_report"):  # which reads the loss, now and then
            step(0)
            step(1)
            with counted(parts.clock) as counts:
                step(2)
    return counts


@pytest.mark.parametrize("name", BUDGETS)
def test_a_training_step_stays_within_its_budget(
    name: str, habits: Path, sim: torch.device
) -> None:
    budget = BUDGETS[name]
    counts = counts_of_step(small_config(habits)(**budget.settings), sim)
    assert not [note for note in counts.waits if note.kind == "copy"], counts.listed()
    assert counts.num_waits() == budget.waits, counts.listed()
    operations = counts.operations()
    if budget.operations is not None:
        assert operations.keys() == budget.operations.keys()
        over = {
            stage: number
            for stage, number in operations.items()
            if number > budget.operations[stage]
        }
        assert not over, f"of {sum(operations.values())}, allowed {budget.operations}"
