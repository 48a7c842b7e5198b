"""Score or replay a range of events: memory changes, weights do not.

Shapes: n events of the split, M negatives an event, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.evaluation.metrics import (
    average_precision,
    link_metrics,
    reciprocal_ranks,
    roc_auc,
)
from pres_dist.parallel.world import World
from pres_dist.records import Metrics
from pres_dist.sampling.negatives import Negatives
from pres_dist.step.batches import TemporalBatch, TemporalLoader
from pres_dist.step.forward import Forward
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan

_MOST_QUERIES = 1 << 15
"""Largest number of queries embedded at a time; 20 negatives in batches of 1,000 fit."""


@dataclass
class ScoredEvents:
    """Scores of events and of their negatives, batch by batch."""

    positive: list[Tensor] = field(default_factory=list)
    negative: list[Tensor] = field(default_factory=list)
    endpoints: list[Tensor] = field(default_factory=list)

    def metrics(self, unseen_N: np.ndarray) -> Metrics:
        """Return AP, AUC and MRR of all events, and of those with and without an unseen node.

        AP and AUC use the first negative of each event, so that they do not depend
        on the number of negatives for MRR.
        """
        if not self.positive:
            return {"num_events": 0}
        positive_n = torch.cat(self.positive).numpy()
        negative_nM = torch.cat(self.negative).numpy()
        inductive_n = unseen_N[torch.cat(self.endpoints, dim=1).numpy()].any(0)
        reciprocal_n = reciprocal_ranks(positive_n, negative_nM)
        batches = [
            (one.numpy(), many[:, 0].numpy())
            for one, many in zip(self.positive, self.negative, strict=True)
        ]
        return {
            **link_metrics(positive_n, negative_nM[:, 0], reciprocal_n, inductive_n),
            "ap_per_batch": float(np.mean([average_precision(*batch) for batch in batches])),
            "auc_per_batch": float(np.mean([roc_auc(*batch) for batch in batches])),
        }


def score(
    pipeline: BatchPipeline,
    loader: TemporalLoader,
    negatives: Negatives,
    num_negatives: int,
    world: World,
) -> ScoredEvents:
    """Score a split against `num_negatives` negatives an event, updating memory along the way.

    Each worker scores its time slices of every batch; every worker gets all scores.

    Raises:
        NonFiniteError: a score is nan or infinite; no metric would mean anything.
    """

    def draw(part: TemporalBatch) -> Tensor:
        return negatives.sample(part.src_B, part.dst_B, part.events_B, num_negatives, epoch=0)

    scored = ScoredEvents()
    for parts, forwards in sweep_forwards(pipeline, loader, draw, world, num_negatives):
        ranked = []
        for forward, part in zip(forwards, parts, strict=True):
            score_BM = forward.negative_BM
            missing_BM = negatives.missing(part.events_B, score_BM.shape[1])
            if missing_BM is not None:
                score_BM = score_BM.masked_fill(missing_BM, -torch.inf)
            ranked.append(score_BM)
        ends = [torch.stack([part.src_B, part.dst_B]) for part in parts]
        scored.positive.append(torch.cat([forward.positive_B for forward in forwards]).cpu())
        scored.negative.append(torch.cat(ranked).cpu())
        scored.endpoints.append(torch.cat(ends, dim=1).cpu())
    # The slices of a batch, in worker order, are the batch: metrics equal those of one worker.
    slices = world.gather(scored)
    return ScoredEvents(
        _joined([own.positive for own in slices]),
        _joined([own.negative for own in slices]),
        _joined([own.endpoints for own in slices], dim=1),
    )


def classify(
    pipeline: BatchPipeline, loader: TemporalLoader, num_classes: int, world: World
) -> np.ndarray:
    """Return [n, C] float32 logits of the loaded events, updating memory along the way.

    Each worker classifies its time slices of every batch; every worker gets all logits.

    Raises:
        NonFiniteError: a logit is nan or infinite.
    """

    def none(part: TemporalBatch) -> Tensor:
        return part.events_B.new_empty(part.num_events, 0)

    own = []
    for _, forwards in sweep_forwards(pipeline, loader, none, world):
        logits = [forward.class_BC for forward in forwards if forward.class_BC is not None]
        own.append(torch.cat(logits).cpu())
    batches = _joined(world.gather(own))
    return torch.cat(batches).numpy() if batches else np.empty((0, num_classes), np.float32)


def _joined(slices: Sequence[list[Tensor]], dim: int = 0) -> list[Tensor]:
    """Concatenate the workers' slices of each batch."""
    return [torch.cat(parts, dim=dim) for parts in zip(*slices, strict=True)]


@torch.no_grad()
def replay(pipeline: BatchPipeline, loader: TemporalLoader, world: World) -> None:
    """Rebuild memory and statistics from the start of the stream, with the current weights."""
    pipeline.model.eval()
    pipeline.store.reset()
    for batch in loader.batches(pipeline.tables):
        take_in(pipeline, batch, plan_of(pipeline, batch, world), world, learn=True)


def plan_of(pipeline: BatchPipeline, batch: TemporalBatch, world: World) -> Plan:
    """Plan a step that updates memory over a batch without scoring anything."""
    return pipeline.plan_replay(own_parts(batch, world))


@torch.no_grad()
def take_in(
    pipeline: BatchPipeline, whole: TemporalBatch, plan: Plan, world: World, learn: bool
) -> Sequence[Forward]:
    """Update memory over the batch of a plan; with `learn`, transition statistics too.

    Returns:
        forward results of this worker's parts of the batch.

    Raises:
        NonFiniteError: memory would become nan or infinite on any worker.
    """
    pulled = pipeline.read(plan)
    forwards = [pipeline.forward(plan, pulled, number) for number in range(len(plan.parts))]
    # Before the commit, so that memory stays finite and all workers stop at the same batch.
    _check_finite(forwards, whole, world)
    pipeline.commit(plan, pulled, forwards, learn)
    return forwards


@torch.no_grad()
def sweep_forwards(
    pipeline: BatchPipeline,
    loader: TemporalLoader,
    draw: Callable[[TemporalBatch], Tensor],
    world: World,
    num_negatives: int = 0,
) -> Iterator[tuple[Sequence[TemporalBatch], Sequence[Forward]]]:
    """Yield this worker's parts of each batch and their forward results, updating memory.

    Transition statistics do not change: they come from training events only.

    Args:
        pipeline: model and store.
        loader: a range of events, in temporal batches.
        draw: returns [B, M] negatives of a part.
        world: the workers that share the store.
        num_negatives: M.

    Raises:
        NonFiniteError: a score or memory is nan or infinite on any worker: no metric would
            mean anything.
    """
    pipeline.model.eval()
    size = max(1, _MOST_QUERIES // (2 + num_negatives))
    for whole in loader.batches(pipeline.tables):
        parts = [
            part.part(slice(start, start + size))
            for part in own_parts(whole, world)
            for start in range(0, max(part.num_events, 1), size)
        ]
        plan = pipeline.plan(parts, [draw(part) for part in parts])
        yield parts, take_in(pipeline, whole, plan, world, learn=False)


def own_parts(whole: TemporalBatch, world: World) -> list[TemporalBatch]:
    """Return this worker's slices; empty ones if another worker group has its events."""
    own = world.grid.own_slices(whole.num_events)
    if world.grid.epoch > 0:
        # Workers of this group still take part in every collective, with nothing of their own.
        own = [slice(0)] * len(own)
    return [whole.part(events) for events in own]


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
