"""Sweeps that change memory but no weights: scoring or replaying a range of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.parallel.world import World
from pres_dist.step.batches import Sweep, TemporalBatch
from pres_dist.step.compute import TemporalStep
from pres_dist.step.forward import Forward
from pres_dist.step.plan import Plan

DrawNegatives = Callable[[TemporalBatch], Tensor]

_MOST_QUERIES = 1 << 15
"""Largest number of queries embedded at a time; 20 negatives in batches of 1,000 fit."""


@torch.no_grad()
def replay(step: TemporalStep, sweep: Sweep, world: World) -> None:
    """Rebuild memory and statistics from the start of the stream, with the current weights."""
    step.model.eval()
    step.store.reset()
    for batch in sweep.batches(step.tables):
        take_in(step, batch, plan_of(step, batch, world), world, learn=True)


def plan_of(step: TemporalStep, batch: TemporalBatch, world: World) -> Plan:
    """Plan a step that updates memory over a batch without scoring anything."""
    return step.plan_replay(own_parts(batch, world), int(batch.events_B[0]))


@torch.no_grad()
def take_in(
    step: TemporalStep, whole: TemporalBatch, plan: Plan, world: World, learn: bool
) -> Sequence[Forward]:
    """Update memory over the batch of a plan; with `learn`, transition statistics too.

    Returns:
        forward results of this worker's parts of the batch.

    Raises:
        NonFiniteError: memory would become nan or infinite on any worker.
    """
    pulled = step.read(plan)
    forwards = [step.forward(plan, pulled, number) for number in range(len(plan.parts))]
    _check_finite(forwards, whole, world)
    step.commit(plan, pulled, forwards, learn)
    return forwards


@torch.no_grad()
def sweep_forwards(
    step: TemporalStep, sweep: Sweep, draw: DrawNegatives, world: World, num_negatives: int = 0
) -> Iterator[tuple[Sequence[TemporalBatch], Sequence[Forward]]]:
    """Yield this worker's parts of each batch and their forward results, updating memory.

    Transition statistics do not change: they come from training events only.

    Args:
        step: model and store.
        sweep: a range of events, in temporal batches.
        draw: returns [B, M] negatives of a part.
        world: the workers that share the store.
        num_negatives: M.

    Raises:
        NonFiniteError: a score or memory is nan or infinite on any worker: no metric would
            mean anything.
    """
    step.model.eval()
    for whole in sweep.batches(step.tables):
        parts = [
            piece for part in own_parts(whole, world) for piece in _pieces(part, num_negatives)
        ]
        plan = step.plan(parts, [draw(part) for part in parts], first_event=int(whole.events_B[0]))
        pulled = step.read(plan)
        forwards = [step.forward(plan, pulled, number) for number in range(len(parts))]
        _check_finite(forwards, whole, world)
        step.commit(plan, pulled, forwards, learn=False)
        yield parts, forwards


def own_parts(whole: TemporalBatch, world: World) -> list[TemporalBatch]:
    """Return this worker's slices; empty ones if another worker group has its events."""
    own = world.grid.own_slices(whole.num_events)
    if world.grid.epoch > 0:
        own = [slice(0)] * len(own)
    return [whole.part(events) for events in own]


def _pieces(part: TemporalBatch, num_negatives: int) -> list[TemporalBatch]:
    """Split the part into pieces that fit into memory with many negatives per event."""
    size = max(1, _MOST_QUERIES // (2 + num_negatives))
    starts = range(0, max(part.num_events, 1), size)
    return [part.part(slice(start, start + size)) for start in starts]


def _check_finite(forwards: Sequence[Forward], whole: TemporalBatch, world: World) -> None:
    """Raise on all workers if any sum is not finite; one raising alone would block the rest."""
    total = torch.stack([_sum_of_all(forward) for forward in forwards]).sum()
    if bool(torch.isfinite(world.all_reduce(total))):
        return
    first, last = int(whole.events_B[0]), int(whole.events_B[-1])
    raise NonFiniteError(
        f"scores and memory must be finite, those of events {first} to {last} are not"
    )


def _sum_of_all(forward: Forward) -> Tensor:
    total = forward.positive_B.sum() + forward.negative_BM.sum() + forward.sum_of_state()
    return total if forward.class_BC is None else total + forward.class_BC.sum()
