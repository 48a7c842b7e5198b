"""Stop training before NaN or infinity reaches weights or memory.

The checks use sums that are all-reduced over workers, so that all workers stop together and
none waits for another. A sum is finite only if all of its terms are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.parallel.world import World
from pres_dist.step.forward import Forward
from pres_dist.training.loss import Loss

Where = Callable[[], str]
"""Returns the step and its events as text; called only on error because it waits for the device."""


def check_update(loss: Loss, norm: Tensor, memory: Tensor, where: Where) -> None:
    """Check loss, gradient and memory before the optimizer runs; waits for the device once.

    Args:
        loss: loss over all workers' events.
        norm: norm of the all-reduced gradient.
        memory: sum of `Forward.sum_of_state` over all parts of all workers.
        where: describes the step, for the error message.

    Raises:
        NonFiniteError: one of them is not finite; raised on all workers.
    """
    if math.isfinite(float(loss.total + norm + memory)):
        return
    raise NonFiniteError(
        f"{where()}: loss, gradient and memory must be finite, got loss {float(loss.total)}, "
        f"gradient norm {float(norm)} and sum of memory {float(memory)}; weights and memory were "
        "left as they were before that step"
    )


def check_written(written: Sequence[Forward], world: World, where: Where) -> None:
    """Check the memory computed after the last of several optimizer steps, before it is written.

    Raises:
        NonFiniteError: the memory is not finite; raised on all workers.
    """
    memory = world.all_reduce(torch.stack([forward.sum_of_state() for forward in written]).sum())
    if math.isfinite(float(memory)):
        return
    raise NonFiniteError(
        f"{where()}: memory must be finite, got a sum of {float(memory)} after that step; memory "
        "was left as it was before those events"
    )
