"""Training stops before NaN or infinity reaches weights or memory.

What is looked at are sums over all workers, which all of them have: they stop together, and
none is left waiting for another. A sum is finite only where all that it adds up is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pres_dist.errors import NonFiniteError
from pres_dist.parallel.world import World
from pres_dist.step.forward import Forward
from pres_dist.training.loss import Loss

Where = Callable[[], str]
"""Names the step and its events; asked only in an error, for it waits for the device."""


def check_update(loss: Loss, norm: Tensor, memory: Tensor, where: Where) -> None:
    """Look at a step before its optimizer; one look, which waits for the device once.

    Args:
        loss: of all workers' events.
        norm: of the gradient that all have added up.
        memory: sum of `Forward.sum_of_state` over all parts of all workers.
        where: for the error.

    Raises:
        NonFiniteError: on all workers alike.
    """
    if bool(torch.isfinite(loss.total + norm + memory)):
        return
    raise NonFiniteError(
        f"{where()}: loss, gradient and memory must be finite, got loss {float(loss.total)}, "
        f"gradient norm {float(norm)} and sum of memory {float(memory)}; weights and memory were "
        "left as they were before that step"
    )


def check_written(written: Sequence[Forward], world: World, where: Where) -> None:
    """Look at memory that the last of several optimizer steps has made, before it is written.

    Raises:
        NonFiniteError: on all workers alike.
    """
    memory = world.all_reduce(torch.stack([forward.sum_of_state() for forward in written]).sum())
    if bool(torch.isfinite(memory)):
        return
    raise NonFiniteError(
        f"{where()}: memory must be finite, got a sum of {float(memory)} after that step; memory "
        "was left as it was before those events"
    )
