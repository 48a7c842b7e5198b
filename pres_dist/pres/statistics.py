"""The filter of PRES: per-node statistics of memory transitions, or of the states they led to.

For a step of a node's memory from s(t1) to s(t2), d = (s(t2) - s(t1)) / (t2 - t1),
and n += 1, sum += d (Su, Zou, Wu, ICLR 2024, section 5; the clock
defines t2 - t1). The sums over two parts of a stream add up to the sums over the
whole, so they merge exactly across shards, replicas and restarts.

Shapes: N nodes, U nodes of a request, C mixture components, D memory size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from pres_dist.pres.clock import TransitionClock

POSITIVE, NEGATIVE = 0, 1
"""Indices of the mixture components: transitions by observed and by negative events."""


@dataclass(frozen=True)
class TransitionRows:
    """Stored statistics of the past transitions of nodes (for PRES prediction).

    Attributes:
        num_observed_U: int64 number of observed transitions; 0 means no prediction.
        rate_UD: mean of their rates, per unit of the clock, or of the states that they led to.
    """

    num_observed_U: Tensor
    rate_UD: Tensor


class TransitionStatistics:
    """Counts and sums of transition rates of every node.

    Args:
        num_nodes: rows.
        dim: memory size.
        num_components: 1, or 2 to keep transitions of negative events separate.
        clock: length of a transition.
        device: device of the sums.
        of_states: whether to sum the states after transitions instead of the rates.
    """

    def __init__(
        self,
        num_nodes: int,
        dim: int,
        num_components: int,
        clock: TransitionClock,
        device: torch.device | str = "cpu",
        of_states: bool = False,
    ) -> None:
        self.clock = clock
        self.of_states = of_states
        self.num_components = num_components
        self.count_NC = torch.zeros(num_nodes, num_components, dtype=torch.int64, device=device)
        self.sum_NCD = torch.zeros(num_nodes, num_components, dim, device=device)

    def observe(
        self,
        nodes_U: Tensor,
        component: int,
        before_UD: Tensor,
        after_UD: Tensor,
        elapsed_U: Tensor,
        events_U: Tensor,
    ) -> None:
        """Add one transition for each of the distinct nodes; skip those of length 0.

        Args:
            nodes_U: ids.
            component: POSITIVE or NEGATIVE.
            before_UD, after_UD: memory at both ends.
            elapsed_U: int64 time between them.
            events_U: int64 number of events in the transition.
        """
        length_U = self.clock(elapsed_U, events_U)
        moved_U = length_U > 0
        rate_UD = after_UD
        if not self.of_states:
            rate_UD = (after_UD - before_UD) / torch.where(moved_U, length_U, 1.0)[:, None]
        # Add into flat tables: `index_add_` into a part of each row takes three times as long.
        row_U = nodes_U * self.num_components
        self.count_NC.view(-1)[component:].index_add_(0, row_U, moved_U.long())
        # Not a product: a recorded step that changes nothing may have NaN here.
        rate_UD = torch.where(moved_U[:, None], rate_UD, 0.0)
        self.sum_NCD.flatten(0, 1)[component:].index_add_(0, row_U, rate_UD)

    def rows(self, nodes_U: Tensor) -> TransitionRows:
        """Return the number of transitions of the nodes, and the mean over their components.

        Components are weighted by their share of the node's transitions.
        """
        count_UC = self.count_NC.index_select(0, nodes_U)
        sum_UCD = self.sum_NCD.index_select(0, nodes_U)
        # Not `sum(1)`, which is slow over one or two rows.
        num_U, sum_UD = (reduce(torch.add, each.unbind(1)) for each in (count_UC, sum_UCD))
        return TransitionRows(num_U, sum_UD / num_U.clamp(min=1)[:, None])

    def reset(self) -> None:
        """Forget all transitions."""
        for sums in (self.count_NC, self.sum_NCD):
            sums.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the [N, C] counts and the [N, C, D] sums."""
        return {"count": self.count_NC, "sum": self.sum_NCD}
