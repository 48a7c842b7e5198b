"""What a forward pass has computed, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.model.tgn import UpdatedMemory
from pres_dist.step.gather import Gathered


@dataclass(frozen=True)
class Forward:
    """What a forward pass over one part of a step computed.

    Attributes:
        gathered: the distinct nodes and who reads them.
        updated: their memory after mail and correction.
        positive_B: logits of the events; empty in a replay.
        negative_BM: logits of the negatives; empty in a replay.
        class_BC: logits of the classes; None without a classifier, and in a replay.
        endpoints_2BD: what mail holds of sources and destinations, each at its own event;
            None where that is their memory.
    """

    gathered: Gathered
    updated: UpdatedMemory
    positive_B: Tensor
    negative_BM: Tensor
    class_BC: Tensor | None = None
    endpoints_2BD: Tensor | None = None

    def sum_of_state(self) -> Tensor:
        """Scalar sum of what memory and mail may be given: finite only where all of it is."""
        total = self.updated.memory_UD.detach().sum(dtype=torch.float32)
        if self.endpoints_2BD is not None:
            total = total + self.endpoints_2BD.detach().sum(dtype=torch.float32)
        return total
