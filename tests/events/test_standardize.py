"""Scaling of features by training events."""

from __future__ import annotations

import numpy as np
import torch

from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables, standardize


def test_each_feature_gets_mean_0_and_deviation_1() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal([5, -3000, 0.01], [2, 500, 1e-4], (4000, 3)).astype(np.float32)
    affine = standardize(features)
    scaled = features * affine.scale + affine.shift
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-3)


def test_a_constant_feature_becomes_zero() -> None:
    features = np.full((10, 2), [3.3, 0.0], dtype=np.float32)
    affine = standardize(features)
    np.testing.assert_allclose(features * affine.scale + affine.shift, 0, atol=1e-6)


def test_what_is_scaled_stays_finite() -> None:
    """Whatever float32 can tell: the smallest numbers that differ, the largest, and both ends."""
    small, large = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    features = np.array([[0, 0, -large], [small, large, large]], dtype=np.float32)
    affine = standardize(features)
    assert np.isfinite(features * affine.scale + affine.shift).all()


def test_tables_scale_what_they_look_up_and_leave_the_stream_alone() -> None:
    features = np.array([[1.0], [3.0], [100.0]], dtype=np.float32)
    stream = EventStream.from_arrays([0, 1, 0], [2, 2, 2], [0, 1, 2], edge_features=features)
    tables = EventTables(stream, "cpu", standardize(features[:2]))
    rows = tables.edge_features(torch.tensor([[0, 1], [2, 0]]))
    assert rows is not None
    torch.testing.assert_close(rows, torch.tensor([[[-1.0], [1.0]], [[98.0], [-1.0]]]))
    assert stream.edge_features is not None
    assert stream.edge_features[2, 0] == 100
