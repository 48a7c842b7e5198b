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

    def detach(self) -> Loss:
        """The same values without their graph."""
        return Loss(self.total.detach(), self.link.detach(), self.incoherence.detach())


def batch_loss(forward: Forward, coherence_weight: float) -> Loss:
    """Binary cross-entropy (positives and negatives weigh alike) and PRES coherence.

    Both are means over the batch's events, so that the gradient of a batch is the
    weighted mean of those of its time slices.
    """
    link = _cross_entropy(forward.positive_B, 1.0) + _cross_entropy(forward.negative_BM, 0.0)
    updated = forward.updated
    with torch.set_grad_enabled(coherence_weight > 0):
        incoherence_U = incoherence(
            updated.previous_UD, updated.memory_UD.float(), updated.updated_U
        )
        mean = incoherence_U.index_select(0, forward.gathered.index_2B).mean()
    return Loss(link + coherence_weight * mean if coherence_weight else link, link, mean)


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
