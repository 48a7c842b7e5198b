"""Optimizer construction, trainable parameters and the scale of the gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pres_dist.config.training import TrainingConfig
from pres_dist.model.decoder import Classifier, LinkDecoder
from pres_dist.training.muon import Muon

_TINY = 1e-12
"""Smallest norm to divide by: a gradient of zeros stays zero."""


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer that `training.optimizer` names, over all trainable parameters."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            trainable(model), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    matrices = _matrices(model)
    return Muon(
        matrices=[(parameter, blocks) for parameter, blocks in matrices.items()],
        others=[parameter for parameter in trainable(model) if parameter not in matrices],
        lr=config.learning_rate,
        other_ratio=config.vector_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def _matrices(model: nn.Module) -> dict[nn.Parameter, int]:
    """Return the parameters that Muon updates, with their number of blocks.

    These are matrices between hidden layers. The last layer of a decoder is not a
    map between spaces: its rows are one direction per class. AdamW updates it, and matrices of a
    single row or column. A recurrent cell stacks the matrices of its gates.
    """
    last = {
        parameter
        for module in model.modules()
        if isinstance(module, LinkDecoder | Classifier)
        for parameter in module.out.parameters()
    }
    gates = {
        parameter: 3
        for module in model.modules()
        if isinstance(module, nn.GRUCell)
        for parameter in module.parameters()
    }
    return {
        parameter: gates.get(parameter, 1)
        for parameter in trainable(model)
        if parameter.dim() == 2 and min(parameter.shape) > 1 and parameter not in last
    }


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters: all except the parameters of a frozen encoder."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def scale_gradient(model: nn.Module, config: TrainingConfig) -> Tensor:
    """Scale the whole gradient as its optimizer needs it; return its norm before.

    For Muon the norm becomes 1. Its step has the same length whatever the gradient's, but its
    momentum is a mean over steps: one temporal batch with an outlying gradient, such as the first
    of an epoch, before any event is known, would decide the next ten steps. For AdamW, which
    divides by a mean of squares, the gradient is clipped to `training.gradient_clip`.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if config.optimizer == "muon":
        torch._foreach_div_(gradients, norm.clamp(min=_TINY))
    elif config.gradient_clip:
        nn.utils.clip_grads_with_norm_(model.parameters(), config.gradient_clip, norm)
    return norm
