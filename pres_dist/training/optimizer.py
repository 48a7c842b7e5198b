"""Optimizer construction, trainable parameters and the gradient norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pres_dist.config.training import TrainingConfig
from pres_dist.model.decoder import Classifier, LinkDecoder
from pres_dist.training.muon import Muon


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


def gradient_norm(model: nn.Module, largest: float) -> Tensor:
    """Return the norm of the whole gradient before clipping it to `largest` (0: no clipping)."""
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if largest:
        return nn.utils.clip_grad_norm_(parameters, largest)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
