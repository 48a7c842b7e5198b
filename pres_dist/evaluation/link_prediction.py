"""Link prediction on a split of a stream.

Shapes: n events of the split, M negatives an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pres_dist.evaluation.metrics import (
    Metrics,
    average_precision,
    link_metrics,
    reciprocal_ranks,
    roc_auc,
)
from pres_dist.evaluation.sweep import sweep_forwards
from pres_dist.parallel.world import World
from pres_dist.sampling.negatives import Negatives
from pres_dist.step.batches import Sweep, TemporalBatch
from pres_dist.step.compute import TemporalStep
from pres_dist.step.forward import Forward


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


def score(
    step: TemporalStep,
    sweep: Sweep,
    negatives: Negatives,
    num_negatives: int,
    world: World,
) -> ScoredEvents:
    """Score a split against negatives, updating memory along the way.

    Each worker scores its time slices of every batch; every worker gets all scores.

    Transition statistics do not change: they come from training events only.

    Args:
        step: model and store.
        sweep: the split, in temporal batches.
        negatives: negatives that events are ranked against.
        num_negatives: M.
        world: the workers that share the store.

    Raises:
        NonFiniteError: a score is nan or infinite; no metric would mean anything.
    """

    def draw(part: TemporalBatch) -> Tensor:
        return negatives.sample(part.src_B, part.dst_B, part.events_B, num_negatives, epoch=0)

    scored = ScoredEvents()
    for parts, forwards in sweep_forwards(step, sweep, draw, world, num_negatives):
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
    """Return [B, M] scores of the negatives, -inf in place of missing ones."""
    score_BM = forward.negative_BM
    missing_BM = negatives.missing(part.events_B, score_BM.shape[1])
    return score_BM if missing_BM is None else score_BM.masked_fill(missing_BM, -torch.inf)


def merge_slices(parts: Sequence[ScoredEvents]) -> ScoredEvents:
    """Merge the scores of time slices, given in worker order, into those of whole batches."""

    def merge(columns: Sequence[list[Tensor]], dim: int) -> list[Tensor]:
        return [torch.cat(slices, dim=dim) for slices in zip(*columns, strict=True)]

    return ScoredEvents(
        merge([part.positive for part in parts], 0),
        merge([part.negative for part in parts], 0),
        merge([part.endpoints for part in parts], 1),
    )
