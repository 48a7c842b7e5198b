"""Training loss of a temporal batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.step.forward import Forward


@dataclass(frozen=True)
class Loss:
    """Losses of one batch, as scalars on the device.

    Attributes:
        total: link and label losses plus weighted incoherence; with gradient.
        link: loss of events and negatives.
        incoherence: mean over endpoints of events of 1 - cosine(s(t1), s(t2)).
        label: cross-entropy of the labels; 0 where none are learned.
    """

    total: Tensor
    link: Tensor
    incoherence: Tensor
    label: Tensor

    def values(self) -> Tensor:
        """Return [4] total, link, incoherence, label, detached from the graph."""
        losses = (self.total, self.link, self.incoherence, self.label)
        return torch.stack([loss.detach() for loss in losses])


@dataclass(frozen=True)
class Targets:
    """Classification targets of events.

    Attributes:
        class_B: int64 class of each event; below 0 for an event without a label.
        weight_C: float32 weight of each class; None if all weights are 1.
        link_weight: weight of the link loss; that of the label loss is 1.
    """

    class_B: Tensor
    weight_C: Tensor | None
    link_weight: float


def batch_loss(
    forward: Forward,
    coherence_weight: float,
    num_events: int | Tensor,
    targets: Targets | None = None,
    log_density_BC: Tensor | None = None,
    valid_B: Tensor | None = None,
) -> Loss:
    """Return the loss of links, the cross-entropy of labels and the PRES coherence loss.

    All are means over the events of a step. `forward` may be a part of the step: the
    losses and gradients of all parts add up to the loss and gradient of the step. An
    event without a label has a label loss of 0.

    Args:
        forward: scores and memory of the step or of a part of it.
        coherence_weight: beta of PRES.
        num_events: events of the whole step; an event that several groups of workers
            train on counts once for each group.
        targets: labels of the events of `forward`; None if only links are learned.
        log_density_BC: `Negatives.log_density` of each event's destination and negatives. It is
            subtracted from the scores, so that they converge to log-odds against random
            negatives however the negatives were drawn (Bengio and Senécal, 2008).
        valid_B: False for padding, which has no loss; None if there is none.
    """
    if log_density_BC is not None:
        forward = replace(
            forward,
            positive_B=forward.positive_B - log_density_BC[:, 0],
            negative_BM=forward.negative_BM - log_density_BC[:, 1:],
        )
    # Sums over the part, divided by the events of the whole step, so that parts add up.
    num_events = max(num_events, 1) if isinstance(num_events, int) else num_events
    link = _link_loss(forward, num_events, valid_B)
    learned, label = link, torch.zeros_like(link)
    if targets is not None:
        label = _label_loss(forward, targets) / num_events
        learned = label + targets.link_weight * link if targets.link_weight else label
    with torch.set_grad_enabled(coherence_weight > 0):
        incoherence_2B = forward.updated.incoherence_U.index_select(0, forward.gathered.index_2B)
        if valid_B is not None:
            incoherence_2B = torch.where(valid_B.repeat(2), incoherence_2B, 0.0)
        mean = incoherence_2B.sum() / (2 * num_events)
    total = learned + coherence_weight * mean if coherence_weight else learned
    return Loss(total, link, mean, label)


def _link_loss(forward: Forward, num_events: int | Tensor, valid_B: Tensor | None) -> Tensor:
    """Return the sum over the events of `forward`, divided by the events of the step."""
    # Positives and negatives have the same total weight.
    num_negatives = max(forward.negative_BM.shape[-1], 1)
    link = _cross_entropy(forward.positive_B[:, None], 1.0, valid_B) / num_events
    negative = _cross_entropy(forward.negative_BM, 0.0, valid_B)
    return link + negative / (num_events * num_negatives)


def _cross_entropy(logits_BM: Tensor, target: float, valid_B: Tensor | None) -> Tensor:
    target_BM = torch.full_like(logits_BM, target)
    weight_B1 = None if valid_B is None else valid_B.to(logits_BM.dtype)[:, None]
    return F.binary_cross_entropy_with_logits(logits_BM, target_BM, weight_B1, reduction="sum")


def _label_loss(forward: Forward, targets: Targets) -> Tensor:
    """Return the sum over labelled events, each weighted by its class."""
    assert forward.class_BC is not None
    class_B, weight_C = targets.class_B, targets.weight_C
    loss_B = F.cross_entropy(forward.class_BC, class_B, ignore_index=-1, reduction="none")
    if weight_C is not None:
        loss_B = loss_B * weight_C.index_select(0, class_B.clamp(min=0))
    return loss_B.sum()
