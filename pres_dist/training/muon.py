"""Muon: orthogonalized momentum for matrices, AdamW for all other parameters.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); updates are
scaled as in Liu et al., "Muon is scalable for LLM training" (2025), so that one learning rate
suits both groups. A temporal batch of thousands of events allows few optimizer steps. Adam scales
each matrix entry separately; orthogonalization moves all directions of the matrix by the same
length, which needs a tenth of the steps for the same progress (docs/explanation/pres.md).

`torch.optim.Muon` iterates in bfloat16, which most CPUs emulate, handles one matrix at a time, and
would treat the stacked gates of a recurrent cell as one matrix.

Shapes: n blocks of one shape, r rows, c columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration, tuned by Jordan et al. for the steepest
slope at 0."""
_ITERATIONS = 5
_ADAM_RMS = 0.2
"""Typical root mean square of Adam's update at a learning rate of 1 (Liu et al., section 2.2)."""
_TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for blocks of matrices, AdamW for the rest.

    Args:
        matrices: parameters with two dimensions, each with the number of equal blocks of rows
            that are orthogonalized separately (3 for the gates of a GRU).
        others: parameters to update with AdamW.
        lr: learning rate of both groups.
        other_ratio: learning rate of `others` over that of `matrices`.
        momentum: share of the old momentum to keep in each step.
        weight_decay: decoupled weight decay of both groups.

    As in torch's fused optimizers, a step changes nothing if the attribute `found_inf` is a scalar
    tensor of 1. With this attribute, `lr` must be a tensor too, and the gradients of a step that
    changes nothing must be finite.
    """

    def __init__(
        self,
        matrices: Sequence[tuple[nn.Parameter, int]],
        others: Iterable[nn.Parameter],
        lr: float,
        other_ratio: float = 1.0,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {
                "params": [parameter for parameter, _ in matrices],
                "blocks": [blocks for _, blocks in matrices],
                "ratio": 1.0,
            },
            # `fused` makes torch load the step counts of a checkpoint onto the device.
            {"params": list(others), "blocks": None, "ratio": other_ratio, "fused": True},
        ]
        self._padded: _Padding | None = None
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None, "gradients are summed over workers before the step"
        for group in self.param_groups:
            if group["blocks"] is None:
                self._step_adamw(group)
            else:
                self._step_matrices(group)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        trained = [
            (parameter, parameter.grad, blocks)
            for parameter, blocks in zip(group["params"], group["blocks"], strict=True)
            if parameter.grad is not None
        ]
        if not trained:
            return
        for parameter, _, _ in trained:
            if not self.state[parameter]:
                self.state[parameter] = {"momentum": torch.zeros_like(parameter)}
        momenta = [self.state[parameter]["momentum"] for parameter, _, _ in trained]
        gradients = [gradient for _, gradient, _ in trained]
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        rate: float | Tensor = group["lr"] * group["ratio"]
        if found_inf is None:
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        else:
            kept = 1 - found_inf
            rate = rate * kept
            torch._foreach_mul_(momenta, 1 - kept * (1 - group["momentum"]))
            torch._foreach_add_(momenta, gradients, alpha=1 - group["momentum"])
        # Nesterov momentum: mix the gradient in once more.
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        targets = [one for parameter, _, blocks in trained for one in parameter.chunk(blocks)]
        updates = [
            one
            for update, (_, _, blocks) in zip(ahead, trained, strict=True)
            for one in update.chunk(blocks)
        ]
        if group["weight_decay"]:
            torch._foreach_mul_(targets, 1 - rate * group["weight_decay"])
        if isinstance(rate, Tensor) or targets[0].device.type != "cpu":
            updates = self._padding(updates).orthogonal(updates, -rate)
            torch._foreach_add_(targets, updates)
            return
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for target, update in zip(targets, updates, strict=True):
            by_shape[update.shape].append((target, update))
        for shape, pairs in by_shape.items():
            found = orthogonalize(torch.stack([update for _, update in pairs]))
            chosen = [target for target, _ in pairs]
            torch._foreach_add_(chosen, found.unbind(), alpha=-rate * _scale(shape))

    def _padding(self, blocks: Sequence[Tensor]) -> _Padding:
        shapes = [block.shape for block in blocks]
        if self._padded is None or self._padded.shapes != shapes:
            self._padded = _Padding(shapes, blocks[0].device)
        return self._padded

    def _step_adamw(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=group["lr"] * group["ratio"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
            found_inf=getattr(self, "found_inf", None),
        )


class _Padding:
    """Matrices of several shapes as one stack, filled up with zeros.

    The iteration keeps rows and columns of zeros, and its norm ignores them. A GPU computes the
    whole stack in the kernels that one shape needs.

    Args:
        shapes: rows and columns of the matrices.
        device: device of the matrices.
    """

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        self.shapes = list(shapes)
        self._sizes = [shape.numel() for shape in shapes]
        numbers = torch.arange(sum(self._sizes)).split(self._sizes)
        wide = [
            own.view(shape).T if shape[0] > shape[1] else own.view(shape)
            for own, shape in zip(numbers, shapes, strict=True)
        ]
        num_rows, num_columns = (max(each.shape[axis] for each in wide) for axis in (0, 1))
        # The place after all numbers holds a zero.
        source = torch.full((len(wide), num_rows, num_columns), sum(self._sizes))
        for stacked, each in zip(source, wide, strict=True):
            stacked[: each.shape[0], : each.shape[1]] = each
        self._source_nrc = source.to(device)
        place = torch.empty(sum(self._sizes) + 1, dtype=torch.int64)
        place[source.flatten()] = torch.arange(source.numel())
        self._place = place[:-1].to(device)
        scales = [torch.full((shape.numel(),), _scale(shape)) for shape in shapes]
        self._scale = torch.cat(scales).to(device)
        self._zero = torch.zeros(1, device=device)

    def orthogonal(self, matrices: Sequence[Tensor], times: float | Tensor) -> list[Tensor]:
        """Return the orthogonalized matrices, each times the scale of its shape and `times`."""
        flat = torch.cat([*(each.flatten() for each in matrices), self._zero])
        stacked = flat.index_select(0, self._source_nrc.flatten()).view(self._source_nrc.shape)
        found = orthogonalize(stacked).flatten().index_select(0, self._place)
        found = found * (self._scale * times)
        parts = zip(found.split(self._sizes), self.shapes, strict=True)
        return [part.view(shape) for part, shape in parts]


def _scale(shape: torch.Size) -> float:
    """Return the factor that gives an orthogonal matrix the size of Adam's updates."""
    return float(_ADAM_RMS * max(shape) ** 0.5)


def orthogonalize(matrices_nrc: Tensor) -> Tensor:
    """Return the matrices with all singular values close to 1, from 0.7 to 1.2.

    Five steps of a Newton-Schulz iteration (Jordan et al., 2024), for all matrices at once.

    Args:
        matrices_nrc: [n, r, c]; a matrix of zeros stays zero.
    """
    a, b, c = _COEFFICIENTS
    # Transpose tall matrices: the Gram matrix is smaller over the shorter side.
    tall = matrices_nrc.shape[1] > matrices_nrc.shape[2]
    x = matrices_nrc.mT if tall else matrices_nrc
    # The Frobenius norm bounds the largest singular value, as the iteration requires.
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_TINY)
    for _ in range(_ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
