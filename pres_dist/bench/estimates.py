"""Compute means over seeds and their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# 97.5% quantiles of Student's t for 1 to 30 degrees of freedom.
_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
_NORMAL975 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        half: half the width of the 95% t-interval; None for a single value.
        count: number of values.
    """

    mean: float
    half: float | None
    count: int


def estimate(values: Iterable[float | None]) -> Estimate | None:
    """Return the mean and 95% interval of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    count, mean = len(known), math.fsum(known) / len(known)
    if count == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in known) / (count - 1)
    return Estimate(mean, t975(count - 1) * math.sqrt(variance / count), count)


def t975(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t distribution.

    Beyond 30 degrees of freedom, it is computed by an expansion around the normal quantile
    (Abramowitz and Stegun, 26.7.5).
    """
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = _NORMAL975
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
