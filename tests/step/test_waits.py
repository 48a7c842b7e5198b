"""Waits of the host for a GPU in a training step: pinned, so that none is added."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from pres_dist.model import rows
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.step.stages import StageClock
from pres_dist.step.waits import waits
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assembled
from pres_dist.training.trainer import Trainer
from tests.support.small_run import habitual_stream, small_config

ALWAYS = {
    ("sample", "_unique2"): 2,
    ("embed", "nonzero"): 1,
    ("optimizer", "_local_scalar_dense"): 1,
    ("push", "_unique2"): 2,
}
"""Sizes of what is read, of what is written, and whether the step is finite."""
SEQUENTIAL = {("update", "index"): 4, ("update", "nonzero"): 2}
APAN = {
    ("sample", "_unique2"): 1,
    ("sample", "index"): 4,
    ("sample", "unique_consecutive"): 1,
    ("sample", "repeat_interleave"): 1,
    ("optimizer", "_local_scalar_dense"): 1,
    ("push", "_unique2"): 3,
    ("push", "index"): 3,
}
"""No features of neighbors are read, and mail goes on to neighbors."""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"preset": "rates"}, ALWAYS),
        ({"preset": "rates", "memory__mailbox_slots": 2}, ALWAYS | SEQUENTIAL),
        ({"preset": "rates", "sampling__negatives": "historical"}, ALWAYS),
        ({"preset": "rates", "model__kind": "apan"}, APAN),
        ({"memory__mailbox_slots": 2}, ALWAYS | SEQUENTIAL),
        (
            {
                "preset": "rates",
                "model__decoder": "history",
                "sampling__negatives": "random, popular",
                "training__loss": "ranking",
            },
            ALWAYS,
        ),
    ],
    ids=["tgn", "sequential", "historical", "apan", "default", "history"],
)
def test_waits_of_a_training_step(
    settings: dict[str, object], expected: dict[tuple[str, str], int], tmp_path: Path
) -> None:
    habitual_stream(700).save(tmp_path / "habits")
    config = small_config(tmp_path / "habits")(**settings)
    # As on a GPU, which has no kernels that read rows in place.
    dense = mock.patch.object(rows, "_in_place", return_value=False)
    with dense, assembled(config, torch.device("cpu"), World()) as parts:
        trainer = Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())

        def step(number: int) -> None:
            for inputs in trainer.step.prefetch.steps([StepIndex(1, number)]):
                trainer._train_step(inputs, mock.Mock())

        with mock.patch.object(Trainer, "_report"):  # which reads the loss, now and then
            step(0)
            step(1)
            with waits(parts.clock) as found:
                step(2)
    kinds: Counter[tuple[str, str]] = Counter()
    for wait, times in found.items():
        kinds[wait.stage, wait.operation] += times
    assert kinds == expected, "\n".join(map(str, found))


def test_each_kind_of_wait_is_seen() -> None:
    clock, values = StageClock(), torch.tensor([3.0, 0.0, 1.0])
    asks = {
        "_local_scalar_dense": lambda: [values.sum().item(), bool(values[0]), float(values[1])],
        "nonzero": lambda: values.nonzero(),
        "index": lambda: values[values > 0],
        "index_put_": lambda: values.clone().__setitem__(values > 0, torch.ones(2)),
        "masked_select": lambda: values.masked_select(values > 0),
        "_unique2": lambda: torch.unique(values),
        "unique_consecutive": lambda: torch.unique_consecutive(values),
        "bincount": lambda: torch.bincount(values.long()),
        "repeat_interleave": lambda: values.repeat_interleave(values.long()),
        "cpu": lambda: values.cpu(),
        "numpy": lambda: values.numpy(),
        "__array__": lambda: np.asarray(values),
        "tolist": lambda: values.tolist(),
        "to": lambda: values.to("cpu"),
    }
    for operation, ask in asks.items():
        with waits(clock) as found, clock("loss"):
            ask()
        assert {wait.operation for wait in found} == {operation}
        assert {wait.stage for wait in found} == {"loss"}


def test_what_needs_no_wait_is_not_one() -> None:
    values, index = torch.rand(4, requires_grad=True), torch.tensor([2, 0])
    with waits(StageClock()) as found:
        mask = values.detach() > 0
        picked = torch.where(mask, values, 0.0)[index] + values.index_select(0, index)
        picked.sum().backward()
        values.detach().masked_fill_(mask, 0.0).sort()
        index.repeat_interleave(2)
    assert not found
