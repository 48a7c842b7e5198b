"""Link prediction on a part of a stream.

Shapes: n events of the part, M negatives an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.evaluation.metrics import (
    Metrics,
    average_precision,
    link_metrics,
    reciprocal_ranks,
    roc_auc,
)
from pres_dist.parallel.world import World
from pres_dist.sampling.negatives import Negatives
from pres_dist.step.batches import Sweep, TemporalBatch
from pres_dist.step.compute import Forward, TemporalStep

_MOST_QUERIES = 1 << 15
"""Queries embedded at a time; no evaluation with 20 negatives in batches of 1,000 comes near."""


@dataclass
class ScoredEvents:
    """Scores of events and of their negatives, batch by batch."""

    positive: list[Tensor] = field(default_factory=list)
    negative: list[Tensor] = field(default_factory=list)
    endpoints: list[Tensor] = field(default_factory=list)

    def metrics(self, unseen_N: np.ndarray) -> Metrics:
        """AP, AUC and MRR of all events, and of those with a node that training never saw.

        AP and AUC use the first negative of each event, so that they do not depend
        on how many there are for MRR.
        """
        if not self.positive:
            return {"num_events": 0}
        positive_n = torch.cat(self.positive).numpy()
        negative_nM = torch.cat(self.negative).numpy()
        inductive_n = unseen_N[torch.cat(self.endpoints, dim=1).numpy()].any(0)
        batches = [
            (one.numpy(), many[:, 0].numpy())
            for one, many in zip(self.positive, self.negative, strict=True)
        ]
        return {
            **link_metrics(
                positive_n,
                negative_nM[:, 0],
                reciprocal_ranks(positive_n, negative_nM),
                inductive_n,
            ),
            "ap_per_batch": float(np.mean([average_precision(*batch) for batch in batches])),
            "auc_per_batch": float(np.mean([roc_auc(*batch) for batch in batches])),
        }


@torch.no_grad()
def replay(step: TemporalStep, sweep: Sweep, world: World) -> None:
    """Rebuild memory and statistics from the start of the stream, with the present weights."""
    step.model.eval()
    step.store.reset()
    for batch in sweep.batches(step.tables):
        plan = step.plan_replay(_own_parts(batch, world))
        pulled = step.read(plan)
        forwards = [step.forward(plan, pulled, number) for number in range(len(plan.parts))]
        step.commit(plan, pulled, forwards, learn=True)


@torch.no_grad()
def score(
    step: TemporalStep,
    sweep: Sweep,
    negatives: Negatives,
    num_negatives: int,
    world: World,
) -> ScoredEvents:
    """Score a part of the stream against negatives, and carry the memory through it.

    Each worker scores its time slices of every batch; all get all scores.

    Statistics of transitions are not touched: they come from training events only.

    Args:
        step: model and store.
        sweep: the part of the stream, in temporal batches.
        negatives: what events are ranked among.
        num_negatives: M.
        world: the workers that share the store.

    Raises:
        NonFiniteError: a score is nan or infinite; no metric would mean anything.
    """
    step.model.eval()
    scored = ScoredEvents()
    for whole in sweep.batches(step.tables):
        parts = [
            piece for part in _own_parts(whole, world) for piece in _pieces(part, num_negatives)
        ]
        drawn = [
            negatives.sample(part.src_B, part.dst_B, part.events_B, num_negatives, epoch=0)
            for part in parts
        ]
        plan = step.plan(parts, drawn)
        pulled = step.read(plan)
        forwards = [step.forward(plan, pulled, number) for number in range(len(parts))]
        for forward, part in zip(forwards, parts, strict=True):
            _check_finite(forward, part)
        step.commit(plan, pulled, forwards, learn=False)
        scored.positive.append(torch.cat([forward.positive_B for forward in forwards]).cpu())
        scored.negative.append(
            torch.cat(
                [
                    _without_missing(forward, part, negatives)
                    for forward, part in zip(forwards, parts, strict=True)
                ]
            ).cpu()
        )
        ends = [torch.stack([part.src_B, part.dst_B]) for part in parts]
        scored.endpoints.append(torch.cat(ends, dim=1).cpu())
    return merge_slices(world.gather(scored))


def _without_missing(forward: Forward, part: TemporalBatch, negatives: Negatives) -> Tensor:
    """[B, M] scores of the negatives, lowest of all where an event has fewer."""
    score_BM = forward.negative_BM
    missing_BM = negatives.missing(part.events_B, score_BM.shape[1])
    return score_BM if missing_BM is None else score_BM.masked_fill(missing_BM, -torch.inf)


def _own_parts(whole: TemporalBatch, world: World) -> list[TemporalBatch]:
    """This worker's slices; empty ones where its events are those of another group."""
    own = world.grid.own_slices(whole.num_events)
    if world.grid.epoch > 0:
        own = [slice(0)] * len(own)
    return [whole.part(events) for events in own]


def _pieces(part: TemporalBatch, num_negatives: int) -> list[TemporalBatch]:
    """The part in pieces that fit into memory, where there are very many negatives an event."""
    size = max(1, _MOST_QUERIES // (2 + num_negatives))
    starts = range(0, max(part.num_events, 1), size)
    return [part.part(slice(start, start + size)) for start in starts]


def merge_slices(parts: Sequence[ScoredEvents]) -> ScoredEvents:
    """The scores of whole batches from those of their time slices, in the order of workers."""

    def merge(columns: Sequence[list[Tensor]], dim: int) -> list[Tensor]:
        return [torch.cat(slices, dim=dim) for slices in zip(*columns, strict=True)]

    return ScoredEvents(
        merge([part.positive for part in parts], 0),
        merge([part.negative for part in parts], 0),
        merge([part.endpoints for part in parts], 1),
    )


def _check_finite(forward: Forward, batch: TemporalBatch) -> None:
    if bool(torch.isfinite(forward.positive_B.sum() + forward.negative_BM.sum())):
        return
    first, last = int(batch.events_B[0]), int(batch.events_B[-1])
    raise NonFiniteError(f"scores must be finite, those of events {first} to {last} are not")
