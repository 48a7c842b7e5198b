"""The training loss of a temporal batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.pres.coherence import incoherence
from pres_dist.step.forward import Forward

LinkLoss = Literal["cross_entropy", "ranking", "both"]


@dataclass(frozen=True)
class Loss:
    """Scalars of one batch, on the device.

    Attributes:
        total: what is learned, plus weighted incoherence; with gradient.
        link: loss of events and negatives.
        incoherence: mean over endpoints of events of 1 - cosine(s(t1), s(t2)).
        label: cross-entropy of the labels; 0 where none are learned.
    """

    total: Tensor
    link: Tensor
    incoherence: Tensor
    label: Tensor

    def values(self) -> Tensor:
        """[4] total, link, incoherence, label, without their graph."""
        losses = (self.total, self.link, self.incoherence, self.label)
        return torch.stack([loss.detach() for loss in losses])


@dataclass(frozen=True)
class Targets:
    """What is to be learned of events beside that they happened.

    Attributes:
        class_B: int64 class of each event; below 0 for an event without a label.
        weight_C: float32 weight of each class; None where all weigh 1.
        link_weight: weight of the link loss beside that of the labels.
    """

    class_B: Tensor
    weight_C: Tensor | None
    link_weight: float


def batch_loss(
    forward: Forward,
    coherence_weight: float,
    num_events: int,
    targets: Targets | None = None,
    link_loss: LinkLoss = "cross_entropy",
) -> Loss:
    """Loss of links and cross-entropy of labels, and PRES coherence.

    All are means over the events of a step, of which `forward` may be a part: the
    losses of all parts, and their gradients, add up to those of the step. An event
    without a label has a label loss of 0.

    Args:
        forward: scores and memory of the step or of a part of it.
        coherence_weight: beta of PRES.
        num_events: events of the whole step; an event that several groups of workers
            train on counts once for each.
        targets: labels of the events of `forward`; None where only links are learned.
        link_loss: as in `TrainingConfig.loss`.
    """
    num_events = max(num_events, 1)
    link = _link_loss(forward, link_loss, num_events)
    learned, label = link, torch.zeros_like(link)
    if targets is not None:
        label = _label_loss(forward, targets) / num_events
        learned = label + targets.link_weight * link if targets.link_weight else label
    updated = forward.updated
    with torch.set_grad_enabled(coherence_weight > 0):
        incoherence_U = incoherence(
            updated.previous_UD, updated.memory_UD.float(), updated.updated_U
        )
        mean = incoherence_U.index_select(0, forward.gathered.index_2B).sum() / (2 * num_events)
    total = learned + coherence_weight * mean if coherence_weight else learned
    return Loss(total, link, mean, label)


def _link_loss(forward: Forward, kind: LinkLoss, num_events: int) -> Tensor:
    """Sum over the events of `forward` / events of the step."""
    if kind == "ranking":
        return _ranking(forward) / num_events
    # Positives and negatives weigh alike.
    num_negatives = max(forward.negative_BM.shape[-1], 1)
    link = _cross_entropy(forward.positive_B, 1.0) / num_events
    link = link + _cross_entropy(forward.negative_BM, 0.0) / (num_events * num_negatives)
    return link if kind == "cross_entropy" else (link + _ranking(forward) / num_events) / 2


def _ranking(forward: Forward) -> Tensor:
    """Sum over events of -log softmax of the event among its negatives."""
    logits_BC = torch.cat([forward.positive_B[:, None], forward.negative_BM], dim=1)
    return (logits_BC.logsumexp(1) - logits_BC[:, 0]).sum()


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    target_like = torch.full_like(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target_like, reduction="sum")


def _label_loss(forward: Forward, targets: Targets) -> Tensor:
    """Sum over labelled events, each weighed by its class."""
    assert forward.class_BC is not None
    class_B, weight_C = targets.class_B, targets.weight_C
    loss_B = F.cross_entropy(forward.class_BC, class_B, ignore_index=-1, reduction="none")
    if weight_C is not None:
        loss_B = loss_B * weight_C.index_select(0, class_B.clamp(min=0))
    return loss_B.sum()
