"""Prediction of node states from their past transitions (PRES).

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
"""Initial logit: one unit of the clock closes an eighth of the distance to the mean."""


class Predictor(nn.Module):
    """Predicts the change of a node's memory over a transition from its statistics.

    `drift` extrapolates at the node's mean rate, as in the paper. `level` reverts towards
    the mean of its past states, since a bounded recurrent memory cannot drift for long: it
    closes the fraction 1 - (1 - a)^length of the distance, with a learned per dimension.

    Args:
        config: kind of predictor, and its shrinkage.
        dim: D.
        clock: length of a transition; must be the clock of the statistics.
    """

    def __init__(self, config: PresConfig, dim: int, clock: TransitionClock) -> None:
        super().__init__()
        self.clock = clock
        self._shrinkage = config.shrinkage
        self.share_logit: nn.Parameter | None = None
        if config.predictor == "level":
            self.share_logit = nn.Parameter(torch.full((dim,), _FIRST_SHARE_LOGIT))

    def forward(self, state_UD: Tensor, length_U: Tensor, known: TransitionRows) -> Tensor:
        """Return the [U, D] change over transitions of the given lengths; 0 without statistics.

        Args:
            state_UD: memory at the start of the transitions.
            length_U: lengths, as measured by `clock`.
            known: statistics of the nodes' observed transitions.
        """
        if self.share_logit is None:
            change_UD = length_U[:, None] * known.rate_UD
        else:
            log_left_D = F.logsigmoid(-self.share_logit)  # log(1 - a)
            change_UD = torch.expm1(length_U[:, None] * log_left_D) * (state_UD - known.rate_UD)
        observed_U = known.num_observed_U.to(torch.float32)
        if self._shrinkage:
            change_UD = change_UD * (observed_U / (observed_U + self._shrinkage))[:, None]
        counts_U = (known.num_observed_U > 0) & (length_U > 0)
        return torch.where(counts_U[:, None], change_UD, 0.0)
