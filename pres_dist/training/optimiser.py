"""The optimiser, what it learns, and the norm of its gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pres_dist.training.config import TrainingConfig


def build_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay over all parameters of the model that are learnt."""
    return torch.optim.AdamW(
        trainable(model), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are learnt: all but those of a frozen encoder."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def gradient_norm(model: nn.Module, largest: float) -> Tensor:
    """Norm of the whole gradient; clipped to `largest` unless that is 0."""
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if largest:
        return nn.utils.clip_grad_norm_(parameters, largest)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
