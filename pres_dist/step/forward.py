"""Result of a forward pass, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.model.tgn import UpdatedMemory
from pres_dist.step.gather import Gathered


@dataclass(frozen=True)
class Forward:
    """Result of a forward pass over one part of a step.

    Attributes:
        gathered: the distinct nodes and the queries' indices into them.
        updated: their memory after mail and correction.
        positive_B: logits of the events; empty in a replay.
        negative_BM: logits of the negatives; empty in a replay.
        class_BC: logits of the classes; None without a classifier, and in a replay.
        endpoints_2BD: mail contents of sources and destinations, each at its own event;
            None if mail holds their memory.
    """

    gathered: Gathered
    updated: UpdatedMemory
    positive_B: Tensor
    negative_BM: Tensor
    class_BC: Tensor | None = None
    endpoints_2BD: Tensor | None = None

    def sum_of_state(self) -> Tensor:
        """Return a scalar sum of all values to be written: finite only if all of them are."""
        total = self.updated.memory_UD.detach().sum(dtype=torch.float32)
        if self.endpoints_2BD is not None:
            total = total + self.endpoints_2BD.detach().sum(dtype=torch.float32)
        return total
