"""Scaling of raw features, from training events alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MOST_ROWS = 1_000_000
"""Rows that mean and deviation are estimated from, evenly spaced."""


@dataclass(frozen=True)
class Affine:
    """x -> x * scale + shift, feature by feature; float32 [d] each."""

    scale: np.ndarray
    shift: np.ndarray


def standardize(features: np.ndarray) -> Affine:
    """What takes each feature to mean 0 and deviation 1; a constant feature becomes 0.

    Args:
        features: [rows, d] of the part that may be looked at.
    """
    rows = np.asarray(features[:: max(1, len(features) // _MOST_ROWS)], dtype=np.float64)
    mean, deviation = rows.mean(0), rows.std(0)
    # A constant is not always exactly so after the sums; and what is scaled must stay finite.
    constant = deviation <= np.maximum(1e-9 * np.abs(mean), np.finfo(np.float32).tiny)
    scale = 1 / np.where(constant, 1.0, deviation)
    return Affine(scale.astype(np.float32), (-mean * scale).astype(np.float32))
