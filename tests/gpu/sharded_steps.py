"""Training steps of several workers on simulated GPUs, for a function of `GlooWorld`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from unittest import mock

import torch
import torch.distributed as dist

from pres_dist.config.run import RunConfig
from pres_dist.parallel.device import use_device
from pres_dist.parallel.grid import Grid, training_grid
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assembled
from pres_dist.training.trainer import Trainer
from tests.gpu.collective_order import Enqueued, noted
from tests.gpu.counting import counted
from tests.support.gloo_world import Worker

STEPS = 4


@dataclass(frozen=True)
class Trained:
    """Results of a worker.

    Attributes:
        losses: loss of each optimizer step.
        collectives: what it enqueued.
        waits: waits of the host in the last step, by stage, and their lines.
    """

    losses: list[float]
    collectives: list[Enqueued]
    waits: dict[str, int]
    listed: str


def train_steps(
    config: RunConfig, world: World, device: torch.device, jitter_s: float = 0.0
) -> Trained:
    """Train a few steps; count the waits of the last."""
    losses: list[float] = []
    with assembled(config, device, world) as parts:
        trainer = Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())
        parts.model.train()
        indices = [StepIndex(1, number) for number in range(STEPS)]
        with noted(jitter_s) as collectives, mock.patch.object(Trainer, "_report"):
            steps = trainer.step.prefetch.steps(indices)
            for _ in indices:
                with counted(parts.clock) as counts:
                    trainer._train_step(next(steps), mock.Mock())
                assert trainer._last is not None
                losses.append(float(trainer._last.loss.total))
    return Trained(losses, collectives, counts.num_waits(), counts.listed())


def train_on_gpus(worker: Worker, config: RunConfig, jitter_s: float, planted: bool) -> Trained:
    """Train as one of several workers, with a GPU each and simulated NCCL between them.

    Args:
        worker: this worker.
        config: the run.
        jitter_s: longest delay of a collective.
        planted: read ahead in a thread, as on a CPU.
    """
    from tests.gpu import simulated_collectives as simulated

    torch.autograd.set_multithreading_enabled(False)  # see simulated.py
    device = torch.device(simulated.NAME, worker.rank)
    use_device(device)
    grid = training_grid(config.parallel, worker.rank, worker.world)
    world = _world(grid, simulated.BACKEND, worker.group)
    plant = mock.patch("pres_dist.training.prefetch.SideStream", return_value=None)
    with plant if planted else nullcontext():
        return train_steps(config, world, device, jitter_s)


def _world(grid: Grid, backend: str, control: dist.ProcessGroup) -> World:
    everyone = dist.new_group(backend=backend)
    memories = [
        dist.new_group(grid.memory_ranks(replica), backend=backend)
        for replica in range(grid.replicas)
    ]
    return World(grid, everyone, memories[grid.replica], control=control)
