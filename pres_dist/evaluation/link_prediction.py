"""Link prediction on a part of a stream.

Shapes: n events of the part, M negatives an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.evaluation.metrics import average_precision, reciprocal_ranks, roc_auc
from pres_dist.parallel.world import World
from pres_dist.sampling.negatives import NegativeSampler
from pres_dist.step.batches import Sweep, TemporalBatch
from pres_dist.step.compute import Forward, TemporalStep

Metrics = dict[str, Any]


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
            **_ranking(positive_n, negative_nM),
            "ap_per_batch": float(np.mean([average_precision(*batch) for batch in batches])),
            "auc_per_batch": float(np.mean([roc_auc(*batch) for batch in batches])),
            "inductive": _ranking(positive_n[inductive_n], negative_nM[inductive_n]),
            "transductive": _ranking(positive_n[~inductive_n], negative_nM[~inductive_n]),
        }


def _ranking(positive_n: np.ndarray, negative_nM: np.ndarray) -> Metrics:
    if positive_n.size == 0:
        return {"num_events": 0}
    return {
        "num_events": int(positive_n.size),
        "ap": average_precision(positive_n, negative_nM[:, 0]),
        "auc": roc_auc(positive_n, negative_nM[:, 0]),
        "mrr": float(reciprocal_ranks(positive_n, negative_nM).mean()),
    }


@torch.no_grad()
def replay(step: TemporalStep, sweep: Sweep, world: World) -> None:
    """Rebuild memory and statistics from the start of the stream, with the present weights."""
    step.model.eval()
    step.store.reset()
    for batch in sweep.batches(step.tables):
        plan = step.plan_replay(_own_parts(batch, world), int(batch.events_B[0]))
        pulled = step.read(plan)
        forwards = [step.forward(plan, pulled, number) for number in range(len(plan.parts))]
        step.commit(plan, pulled, forwards, learn=True)


@torch.no_grad()
def score(
    step: TemporalStep,
    sweep: Sweep,
    negatives: NegativeSampler,
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
        parts = _own_parts(whole, world)
        drawn = [
            negatives.sample(part.src_B, part.dst_B, part.events_B, num_negatives, epoch=0)
            for part in parts
        ]
        plan = step.plan(parts, drawn, first_event=int(whole.events_B[0]))
        pulled = step.read(plan)
        forwards = [step.forward(plan, pulled, number) for number in range(len(parts))]
        for forward, part in zip(forwards, parts, strict=True):
            _check_finite(forward, part)
        step.commit(plan, pulled, forwards, learn=False)
        scored.positive.append(torch.cat([forward.positive_B for forward in forwards]).cpu())
        scored.negative.append(torch.cat([forward.negative_BM for forward in forwards]).cpu())
        ends = [torch.stack([part.src_B, part.dst_B]) for part in parts]
        scored.endpoints.append(torch.cat(ends, dim=1).cpu())
    return merge_slices(world.gather(scored))


def _own_parts(whole: TemporalBatch, world: World) -> list[TemporalBatch]:
    """This worker's slices; empty ones where its events are those of another group."""
    own = world.grid.own_slices(whole.num_events)
    if world.grid.epoch > 0:
        own = [slice(0)] * len(own)
    return [whole.part(events) for events in own]


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
