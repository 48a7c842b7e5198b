"""A training step copies nothing between host and device, which would make the host wait."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assembled
from pres_dist.training.trainer import Trainer
from tests.support.small_run import small_config

SETTINGS: dict[str, dict[str, object]] = {
    "rates": {"preset": "rates"},
    "several optimizer steps": {"training__events_per_step": 50},
    "dyrep": {"model__kind": "dyrep", "preset": "rates"},
    "held-out nodes": {"preset": "rates", "data__held_out_share": 0.1},
    "without a prediction": {"pres__prediction": "false"},
    "apan": {"model__kind": "apan", "preset": "rates"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_step_copies_nothing(name: str, habits: Path, sim: torch.device) -> None:
    from tests.gpu.simulated import waits

    config = small_config(habits)(**SETTINGS[name])
    with assembled(config, sim, World()) as parts:
        trainer = Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())

        def step(number: int) -> None:
            for inputs in trainer.step.prefetch.steps([StepIndex(1, number)]):
                trainer._train_step(inputs, mock.Mock())

        with mock.patch.object(Trainer, "_report"):  # which reads the loss, now and then
            step(0)
            with waits() as found:
                step(1)
    assert found  # sizes and one value: tests/step/test_waits.py has the list
    assert not [wait for wait in found if wait.kind == "copy"]
