"""The memory-coherence loss of PRES."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def incoherence(previous_UD: Tensor, updated_UD: Tensor, counts_U: Tensor) -> Tensor:
    """Return [U] values of 1 - cosine(s(t1), s(t2)), 0 for nodes that do not count.

    The loss of PRES (ICLR 2024, section 5) is beta times its mean over the
    endpoints of a batch's events. Gradient flows only through s(t2); s(t1) is a
    value that an earlier step wrote.

    Args:
        previous_UD: memory before the update.
        updated_UD: memory after it.
        counts_U: bool, nodes whose memory was updated from an earlier one.
    """
    cosine_U = F.cosine_similarity(previous_UD.detach(), updated_UD, dim=1)
    return (1 - cosine_U) * counts_U
