"""Fit rates to measured times by non-negative least squares."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def fit_rates(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Fit non-negative rates that minimize the squared relative errors of the predicted seconds.

    Every subset of nonzero rates is tried; there are few.

    Args:
        rows: [n, c] quantities of each measurement.
        seconds: [n] measured seconds, all above 0.

    Returns:
        [c] rates >= 0.
    """
    target = np.asarray(seconds, dtype=float)
    scaled = np.asarray(rows, dtype=float) / target[:, None]
    num = scaled.shape[1]
    best, best_error = np.zeros(num), np.inf
    for size in range(1, num + 1):
        for chosen in combinations(range(num), size):
            found, *_ = np.linalg.lstsq(scaled[:, chosen], np.ones(len(target)), rcond=None)
            error = float(((scaled[:, chosen] @ found - 1) ** 2).sum())
            if (found >= 0).all() and error < best_error:
                best, best_error = np.zeros(num), error
                best[list(chosen)] = found
    return best.tolist()
