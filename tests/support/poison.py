"""NaN or infinity planted into a training or an evaluation, and what it may not have moved."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.step.forward import Forward
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import Parts
from pres_dist.training.trainer import Trainer
from tests.support.states import tensors_of

KINDS = ("score", "gradient", "memory", "mail", "refreshed memory")


def make_trainer(parts: Parts) -> Trainer:
    return Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())


def run_step(trainer: Trainer, number: int, updates: int) -> None:
    """One step of the first epoch."""
    trainer.step.num_updates = updates
    trainer.step.run(trainer.step.prepare(StepIndex(1, number)))


def poisoned(parts: Parts, kind: str) -> AbstractContextManager[object]:
    """While the block runs, one number of each forward or backward pass is not finite."""
    if kind == "score":
        score = parts.model.score
        return mock.patch.object(parts.model, "score", lambda *a: score(*a) * float("nan"))
    if kind == "gradient":
        weight = parts.model.decoder.out.weight
        weight.register_hook(lambda gradient: gradient * float("inf"))
        return nullcontext()
    method = "refresh" if kind == "refreshed memory" else "forward"
    spoil = _spoil_mail if kind == "mail" else _spoil_memory
    original = getattr(BatchPipeline, method)

    def spoiling(step: BatchPipeline, *given: Any) -> Forward | list[Forward]:
        made = original(step, *given)
        return [spoil(one) for one in made] if isinstance(made, list) else spoil(made)

    return mock.patch.object(BatchPipeline, method, spoiling)


def _spoil_memory(forward: Forward) -> Forward:
    memory_UD = forward.updated.memory_UD.detach().clone()
    memory_UD[-1, 0] = -float("inf")
    return replace(forward, updated=replace(forward.updated, memory_UD=memory_UD))


def _spoil_mail(forward: Forward) -> Forward:
    """Spoil the part of mail that tells of an endpoint, where that is not its memory."""
    num_ends, dim = forward.gathered.index_2B.numel(), forward.updated.memory_UD.shape[1]
    return replace(forward, endpoints_2BD=torch.full((num_ends, dim), float("nan")))


def state_of(parts: Parts) -> dict[str, Tensor]:
    """Copies of weights and of all that the store holds."""
    held = {"model": dict(parts.model.state_dict()), "store": parts.store.state_dict()}
    return {name: tensor.clone() for name, tensor in tensors_of(held)}


def stopped(parts: Parts, what: Callable[[], object]) -> tuple[str, list[str]]:
    """The NonFiniteError that something ends in, and what of the state it has changed."""
    before = state_of(parts)
    try:
        what()
    except NonFiniteError as error:
        after = state_of(parts)
        return str(error), [name for name in before if not torch.equal(before[name], after[name])]
    raise AssertionError("it was not stopped")
