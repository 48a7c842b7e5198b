"""Prediction of node states from their past transitions, and correction of measured ones (PRES).

Su, Zou, Wu: PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks,
ICLR 2024, section 5. A large temporal batch measures a node's new state from only
part of its events. The mean d of the node's past transition rates predicts that state,
s(t1) + (t2 - t1) d, and a gate g weighs the two: s(t2) = (1 - g) * predicted + g * measured.

Shapes: U nodes, D memory size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.config.pres import PresConfig
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.statistics import TransitionRows

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
        # 0 without statistics; and over a length of 0, the change is.
        num_U, prior = known.num_observed_U, self._shrinkage
        trust_U = num_U / (num_U + prior) if prior else num_U > 0
        return change_UD * trust_U[:, None]


@dataclass(frozen=True)
class Corrected:
    """Corrected memory, and the prediction that went into it.

    Attributes:
        memory_UD: the corrected state, with gradient.
        predicted_UD: s(t1) + (t2 - t1) * d; the measured state for nodes without a d.
        known_U: bool, whether the node had a transition to predict from.
        gate: weight of the measured state; None if the states are not mixed.
    """

    memory_UD: Tensor
    predicted_UD: Tensor
    known_U: Tensor
    gate: Tensor | None


class PresCorrection(nn.Module):
    """Module that predicts node states from their statistics and corrects the measured ones.

    A node without an observed transition keeps its measured state, since it has no
    prediction.

    Args:
        config: predictor and gate.
        dim: D.
        clock: length of a transition; must be the clock of the statistics.
    """

    def __init__(self, config: PresConfig, dim: int, clock: TransitionClock) -> None:
        super().__init__()
        self.clock = clock
        self.predict = Predictor(config, dim, clock)
        self.replaces_lost = config.corrects == "lost"
        logit = math.log(config.initial_gate / (1 - config.initial_gate))
        self.gate_logit = None
        if not self.replaces_lost:
            self.gate_logit = nn.Parameter(torch.tensor(logit))

    @property
    def gate(self) -> Tensor | None:
        """Weight of the measured state, in (0, 1); None if the states are not mixed."""
        return None if self.gate_logit is None else torch.sigmoid(self.gate_logit)

    def forward(
        self,
        previous_UD: Tensor,
        measured_UD: Tensor,
        length_U: Tensor,
        transitions: TransitionRows,
    ) -> Corrected:
        """Correct the measured state.

        Args:
            previous_UD: s(t1).
            measured_UD: the memory updater's state at t2.
            length_U: length of the transition, as measured by `clock`.
            transitions: stored transition statistics of the nodes.
        """
        known_U = (transitions.num_observed_U > 0) & (length_U > 0)
        predicted_UD = previous_UD + self.predict(previous_UD, length_U, transitions)
        predicted_UD = torch.where(known_U[:, None], predicted_UD, measured_UD)
        gate = self.gate
        if gate is None:
            return Corrected(measured_UD, predicted_UD, known_U, None)
        # lerp(a, b, g) = (1 - g) * a + g * b
        return Corrected(torch.lerp(predicted_UD, measured_UD, gate), predicted_UD, known_U, gate)
