"""Standardization of raw features, fitted on training events only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MOST_ROWS = 1_000_000
"""Approximate limit of the evenly spaced rows that mean and deviation are estimated from."""


@dataclass(frozen=True)
class Affine:
    """x -> x * scale + shift, feature by feature; float32 [d] each."""

    scale: np.ndarray
    shift: np.ndarray


def standardize(features: np.ndarray) -> Affine:
    """Return the map that gives each feature mean 0 and deviation 1; constants become 0.

    Args:
        features: [rows, d] features that are known in training.
    """
    rows = np.asarray(features[:: max(1, len(features) // _MOST_ROWS)], dtype=np.float64)
    mean, deviation = rows.mean(0), rows.std(0)
    # Rounding may give a constant feature a tiny deviation; scaled values must stay finite.
    constant = deviation <= np.maximum(1e-9 * np.abs(mean), np.finfo(np.float32).tiny)
    scale = 1 / np.where(constant, 1.0, deviation)
    return Affine(scale.astype(np.float32), (-mean * scale).astype(np.float32))
