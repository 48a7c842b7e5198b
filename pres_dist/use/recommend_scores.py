"""Logits of sources with many candidates.

Shapes: S sources, C candidates, A embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.model.tgn import TGN

_NUMBERS = 1 << 24
"""Hidden numbers of the decoder at a time: what bounds the memory."""


@torch.no_grad()
def all_logits(model: TGN, sources_SA: Tensor, candidates_CA: Tensor) -> Tensor:
    """[S, C] logits of every source with every candidate."""
    rows = max(1, _NUMBERS // max(candidates_CA.numel(), 1))
    parts = [model.score(part, candidates_CA[None]) for part in sources_SA.split(rows)]
    return torch.cat(parts).float()
