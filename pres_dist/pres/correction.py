"""Prediction and correction of node memory (PRES).

Su, Zou, Wu: PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks,
ICLR 2024. A large temporal batch measures a node's new state from only part of
its events. The node's own past transitions predict that state, and a learnt gate
g weighs the two: s(t2) = (1 - g) * predicted + g * measured.

Shapes: U nodes, C mixture components, D memory size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pres_dist.memory.state import Mixture, TransitionRows
from pres_dist.pres.clock import TransitionClock
from pres_dist.sampling.counter_rng import CounterRNG

_PURPOSE = 0x7072


@dataclass(frozen=True)
class Corrected:
    """Corrected memory, and the prediction that went into it.

    Attributes:
        memory_UD: the corrected state, with gradient.
        predicted_UD: s(t1) + (t2 - t1) * d; the measured state where no d is known.
        known_U: bool, whether the node had a transition to predict from.
    """

    memory_UD: Tensor
    predicted_UD: Tensor
    known_U: Tensor


class PresCorrection(nn.Module):
    """Predicts the state of nodes from their statistics and corrects the measured one.

    A node without an observed transition keeps its measured state: there is
    nothing to predict it from.

    Args:
        clock: length of a transition; the same as that of the statistics.
        initial_gate: g before training, in (0, 1).
    """

    def __init__(self, clock: TransitionClock, initial_gate: float) -> None:
        super().__init__()
        self.clock = clock
        self.gate_logit = nn.Parameter(torch.tensor(math.log(initial_gate / (1 - initial_gate))))

    @property
    def gate(self) -> Tensor:
        """Weight of the measured state, in (0, 1)."""
        return torch.sigmoid(self.gate_logit)

    def forward(
        self,
        previous_UD: Tensor,
        measured_UD: Tensor,
        elapsed_U: Tensor,
        transitions: TransitionRows,
        rate_UD: Tensor | None = None,
    ) -> Corrected:
        """Correct the measured state.

        Args:
            previous_UD: s(t1).
            measured_UD: the memory updater's state at t2.
            elapsed_U: int64 t2 - t1 in the stream's time units.
            transitions: what the store knows of the nodes.
            rate_UD: a draw to use in place of the mixture's mean.
        """
        rate_UD = transitions.rate_UD if rate_UD is None else rate_UD
        length_U = self.clock(elapsed_U)
        known_U = (transitions.num_observed_U > 0) & (length_U > 0)
        predicted_UD = torch.addcmul(previous_UD, length_U[:, None], rate_UD)
        predicted_UD = torch.where(known_U[:, None], predicted_UD, measured_UD)
        # lerp(a, b, g) = (1 - g) * a + g * b
        return Corrected(torch.lerp(predicted_UD, measured_UD, self.gate), predicted_UD, known_U)


def draw_rates(mixture: Mixture, nodes_U: Tensor, events_U: Tensor, seed: int) -> Tensor:
    """[U, D] transition rates drawn from each node's mixture.

    The draw is a function of (seed, node, newest event of its mail), the same on
    every worker that touches the node.
    """
    rng = CounterRNG(seed, _PURPOSE)
    threshold_U = rng.uniform(nodes_U, events_U)
    passed_UC = mixture.weight_UC.cumsum(1) <= threshold_U[:, None]
    chosen_U = passed_UC.sum(1).clamp(max=mixture.weight_UC.shape[1] - 1)
    rows_U = torch.arange(nodes_U.numel(), device=nodes_U.device)
    mean_UD = mixture.mean_UCD[rows_U, chosen_U]
    deviation_UD = mixture.variance_UCD[rows_U, chosen_U].sqrt()
    axis_D = torch.arange(mean_UD.shape[1], device=nodes_U.device)
    normal_UD = rng.normal(
        nodes_U[:, None].expand_as(mean_UD), events_U[:, None] + 0 * axis_D, axis_D
    )
    return mean_UD + deviation_UD * normal_UD.to(mean_UD.dtype)
