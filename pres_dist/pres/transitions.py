"""Statistics of the past transitions of nodes, as a memory store returns them.

Shapes: U nodes of a request, D memory size, C components of a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TransitionRows:
    """What a store knows of the past transitions of nodes (PRES prediction).

    Attributes:
        num_observed_U: int64 transitions seen; without one there is no prediction.
        rate_UD: mean of the mixture over transition rates, per unit of the clock.
        mixture: its components, when asked for.
    """

    num_observed_U: Tensor
    rate_UD: Tensor
    mixture: Mixture | None


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture over transition rates for each node, C components.

    Attributes:
        weight_UC: float32 shares of the components; zeros without a transition.
        mean_UCD: per unit of the clock.
        variance_UCD: likewise, squared.
    """

    weight_UC: Tensor
    mean_UCD: Tensor
    variance_UCD: Tensor
