"""Correction of measured node memory by its prediction (PRES).

Su, Zou, Wu: PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks,
ICLR 2024. A large temporal batch measures a node's new state from only part of
its events. The node's own past transitions predict that state, and a gate g
weighs the two: s(t2) = (1 - g) * predicted + g * measured.

Shapes: U nodes, D memory size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pres_dist.config.pres import PresConfig
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.prediction import Predictor
from pres_dist.pres.transitions import TransitionRows


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
