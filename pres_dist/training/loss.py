"""The training loss of a temporal batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.pres.coherence import incoherence
from pres_dist.step.compute import Forward


@dataclass(frozen=True)
class Loss:
    """Scalars of one batch, on the device.

    Attributes:
        total: link loss plus weighted incoherence; with gradient.
        link: cross-entropy of events and negatives.
        incoherence: mean over endpoints of events of 1 - cosine(s(t1), s(t2)).
    """

    total: Tensor
    link: Tensor
    incoherence: Tensor

    def values(self) -> Tensor:
        """[3] total, link, incoherence, without their graph."""
        return torch.stack([self.total.detach(), self.link.detach(), self.incoherence.detach()])


def batch_loss(forward: Forward, coherence_weight: float, num_events: int) -> Loss:
    """Binary cross-entropy (positives and negatives weigh alike) and PRES coherence.

    Both are means over the events of a step, of which `forward` may be a part: the
    losses of all parts, and their gradients, add up to those of the step.

    Args:
        forward: scores and memory of the step or of a part of it.
        coherence_weight: beta of PRES.
        num_events: events of the whole step; an event that several groups of workers
            train on counts once for each.
    """
    num_events = max(num_events, 1)
    num_negatives = max(forward.negative_BM.shape[-1], 1)
    link = _cross_entropy(forward.positive_B, 1.0) / num_events
    link = link + _cross_entropy(forward.negative_BM, 0.0) / (num_events * num_negatives)
    updated = forward.updated
    with torch.set_grad_enabled(coherence_weight > 0):
        incoherence_U = incoherence(
            updated.previous_UD, updated.memory_UD.float(), updated.updated_U
        )
        mean = incoherence_U.index_select(0, forward.gathered.index_2B).sum() / (2 * num_events)
    return Loss(link + coherence_weight * mean if coherence_weight else link, link, mean)


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    target_like = torch.full_like(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target_like, reduction="sum")
