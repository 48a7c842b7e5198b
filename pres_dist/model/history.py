"""A link decoder that also reads the event log.

Memory is stale: within a temporal batch it includes no event of the batch. The log is always
current, and holds the history of the pair itself, which memory cannot. TNCN (Zhang et al.,
2024) adds common neighbors to TGN; EdgeBank (Poursafaei et al., 2022) and popularity baselines
use the counts and ages of pairs.

Shapes: B sources, M candidates of each, A embedding size, S state size, F numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.model.decoder import LinkDecoder

_HIDDEN = 64
_SMALLEST_SCALE = 0.1
"""Smallest deviation to divide by, so that a nearly constant number is not amplified."""


@dataclass(frozen=True)
class Past:
    """Event-log inputs of B sources with M candidates each.

    Attributes:
        numbers_BMF: float32 counts, shares and ages.
        common_BMS: sum of the states of common neighbors, with gradient; None if not read.
        num_common_BM: float32 number of common neighbors; None if not read.
    """

    numbers_BMF: Tensor
    common_BMS: Tensor | None = None
    num_common_BM: Tensor | None = None


class HistoryDecoder(nn.Module):
    """Logit of an event: `LinkDecoder` plus a three-layer perceptron of the pair's past.

        logit = link(z_u, z_v) + mlp([numbers, log(1 + c), sum of states of c common neighbors])

    Numbers are standardized with constants of the training split, saved with the weights.

    Args:
        dim: embedding size A.
        dropout: dropout rate of the hidden layers.
        num_numbers: F.
        common_dim: state size S, may be 0; None to read no common neighbors.
    """

    shift_F: Tensor
    scale_F: Tensor

    def __init__(self, dim: int, dropout: float, num_numbers: int, common_dim: int | None) -> None:
        super().__init__()
        self.link = LinkDecoder(dim, dropout)
        self.register_buffer("shift_F", torch.zeros(num_numbers))
        self.register_buffer("scale_F", torch.ones(num_numbers))
        self.counts_common = common_dim is not None
        self.numbers = nn.Linear(num_numbers + self.counts_common, _HIDDEN)
        self.common = nn.Linear(common_dim, _HIDDEN, bias=False) if common_dim else None
        self.hidden = nn.Linear(_HIDDEN, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, 1)
        self.dropout = dropout

    @torch.no_grad()
    def standardize(self, numbers_nF: Tensor) -> None:
        """Set the standardization constants to mean and deviation over training events."""
        if not numbers_nF.shape[0]:
            return
        wide_nF = numbers_nF.double()
        self.shift_F.copy_(wide_nF.mean(0))
        self.scale_F.copy_(wide_nF.std(0, correction=0).clamp(min=_SMALLEST_SCALE).reciprocal())

    def forward(self, sources_BA: Tensor, destinations_BMA: Tensor, past: Past) -> Tensor:
        """Return [B, M] logits of each source with its M candidate destinations."""
        inputs = [(past.numbers_BMF - self.shift_F) * self.scale_F]
        if past.num_common_BM is not None:
            inputs.append(past.num_common_BM.log1p()[:, :, None])
        hidden = self.numbers(torch.cat(inputs, dim=2))
        if self.common is not None and past.common_BMS is not None:
            hidden = hidden + self.common(past.common_BMS)
        hidden = self.hidden(F.dropout(torch.relu(hidden), self.dropout, self.training))
        hidden = F.dropout(torch.relu(hidden), self.dropout, self.training)
        logits: Tensor = self.link(sources_BA, destinations_BMA) + self.out(hidden).squeeze(-1)
        return logits
