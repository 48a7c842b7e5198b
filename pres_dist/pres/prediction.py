"""Predicting the state of nodes from their own past (PRES).

Su, Zou, Wu: PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks, ICLR 2024,
section 5. With the mean d of a node's transition rates, s(t2) = s(t1) + (t2 - t1) d.

Shapes: U nodes, D memory size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.config.pres import PresConfig
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.transitions import TransitionRows

_FIRST_SHARE_LOGIT = -2.0
"""Before training, an eighth of the distance to the mean is gone after one unit of the clock."""


class Predictor(nn.Module):
    """The change of a node's memory over a time, from its statistics.

    `drift` goes on at the node's mean rate, as in the paper. `level` goes back towards
    the mean of its past states: a recurrent memory that is bounded cannot drift for long.
    Of the distance, 1 - (1 - a)^length is gone, with a learned for each number of the memory.

    Args:
        config: which predictor, and how far it is trusted.
        dim: D.
        clock: length of a transition; the same as that of the statistics.
    """

    def __init__(self, config: PresConfig, dim: int, clock: TransitionClock) -> None:
        super().__init__()
        self.clock = clock
        self._shrinkage, self._clip = config.shrinkage, config.clip
        self.share_logit: nn.Parameter | None = None
        if config.predictor == "level":
            self.share_logit = nn.Parameter(torch.full((dim,), _FIRST_SHARE_LOGIT))

    def forward(
        self, state_UD: Tensor, length_U: Tensor, known: TransitionRows, rate_UD: Tensor
    ) -> Tensor:
        """[U, D] change over transitions of the given lengths; 0 where nothing is known.

        Args:
            state_UD: where nodes start from.
            length_U: by `clock`.
            known: transitions observed of the nodes.
            rate_UD: mean of what was observed of them, or a draw.
        """
        if self.share_logit is None:
            change_UD = length_U[:, None] * rate_UD
        else:
            log_left_D = F.logsigmoid(-self.share_logit)  # log(1 - a)
            change_UD = -torch.expm1(length_U[:, None] * log_left_D) * (rate_UD - state_UD)
        observed_U = known.num_observed_U.to(torch.float32)
        if self._shrinkage:
            change_UD = change_UD * (observed_U / (observed_U + self._shrinkage))[:, None]
        if self._clip:
            change_UD = change_UD.clamp(-self._clip, self._clip)
        counts_U = (known.num_observed_U > 0) & (length_U > 0)
        return torch.where(counts_U[:, None], change_UD, 0.0)
