"""Statistics of the past transitions of nodes, as a memory store returns them.

Shapes: U nodes of a request, D memory size, C components of a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TransitionRows:
    """Stored statistics of the past transitions of nodes (for PRES prediction).

    Attributes:
        num_observed_U: int64 number of observed transitions; 0 means no prediction.
        rate_UD: mean of the mixture over transition rates, per unit of the clock.
        mixture: the mixture's components, if requested.
    """

    num_observed_U: Tensor
    rate_UD: Tensor
    mixture: Mixture | None


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture over transition rates for each node, C components.

    Attributes:
        weight_UC: float32 shares of the components; zeros without a transition.
        mean_UCD: mean rates, per unit of the clock.
        variance_UCD: variances, per squared unit of the clock.
    """

    weight_UC: Tensor
    mean_UCD: Tensor
    variance_UCD: Tensor
