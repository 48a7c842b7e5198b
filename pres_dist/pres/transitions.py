"""Statistics of the past transitions of nodes, as a memory store returns them.

Shapes: U nodes of a request, D memory size.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TransitionRows:
    """Stored statistics of the past transitions of nodes (for PRES prediction).

    Attributes:
        num_observed_U: int64 number of observed transitions; 0 means no prediction.
        rate_UD: mean of their rates, per unit of the clock, or of the states that they led to.
    """

    num_observed_U: Tensor
    rate_UD: Tensor
