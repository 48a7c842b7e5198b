"""A training step of fixed shapes on a GPU: it waits for nothing, and a CUDA graph replays it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pres_dist.parallel.world import World
from pres_dist.training.captured import CapturedSteps
from pres_dist.training.fixed_step import FixedStep
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assembled
from pres_dist.training.step import TrainingStep
from pres_dist.training.totals import EpochTotals
from tests.gpu.counting import counted
from tests.support.small_run import small_config

MOST_OPERATIONS = {"tgn": 1030, "jodie": 860, "dyrep": 1050}


@pytest.mark.parametrize("kind", MOST_OPERATIONS)
def test_a_step_of_fixed_shapes_never_waits(kind: str, habits: Path, sim: torch.device) -> None:
    with assembled(small_config(habits)(model__kind=kind), sim, World()) as parts:
        parts.model.train()
        step = FixedStep(TrainingStep(parts), 110, parts.store.num_nodes)
        first, second = (
            torch.tensor([*parts.train_loader.bounds(number), 1, 0.01], dtype=torch.float64).to(sim)
            for number in (0, 1)
        )
        ok = torch.tensor(True).to(sim)
        step(first, ok)
        with counted() as counts:
            *_, flags = step(second, ok)
        assert flags.cpu()[0] == 1
    assert not counts.waits, counts.listed()
    assert sum(counts.operations().values()) <= MOST_OPERATIONS[kind]


@pytest.mark.parametrize("settings", [{}, {"preset": "paper", "training__optimizer": "adamw"}])
def test_a_cuda_graph_replays_the_exact_step(
    settings: dict[str, object], habits: Path, gpu: torch.device
) -> None:
    config = small_config(habits)(training__batch_size=60, **settings)
    with assembled(config, gpu, World()) as exact, assembled(config, gpu, World()) as recorded:
        exact.model.train()
        recorded.model.train()
        step, steps = TrainingStep(exact), CapturedSteps(TrainingStep(recorded))
        totals = EpochTotals(gpu), EpochTotals(gpu)
        for number in range(4):
            totals[0].add(step.run(step.prepare(StepIndex(1, number))))
            steps.train(StepIndex(1, number), totals[1])
        steps.settle(totals[1])
        assert steps.trained == {"replayed": 4}
        assert totals[1].means()["loss"] == pytest.approx(totals[0].means()["loss"], rel=1e-3)
        for part, tables in exact.store.state_dict().items():
            for name, table in tables.items():
                found = recorded.store.state_dict()[part][name]
                # Sums on a GPU are in no fixed order.
                torch.testing.assert_close(found, table, rtol=1e-2, atol=1e-4, msg=name)
