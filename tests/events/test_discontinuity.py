from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.errors import DataError
from pres_dist.events.discontinuity import discontinuity_profile, pending_events


def brute_force(src, dst, batch_size):
    """Count by looking at every earlier event of the batch."""
    counts = []
    for event in range(len(src)):
        batch = range(event // batch_size * batch_size, event)
        ends = {src[event], dst[event]}
        counts.append(sum(1 for earlier in batch if ends & {src[earlier], dst[earlier]}))
    return counts


node = st.integers(0, 6)


@given(st.lists(st.tuples(node, node), min_size=1, max_size=60), st.integers(1, 70))
def test_equals_brute_force(events, batch_size):
    src, dst = np.array(events).T
    assert pending_events(src, dst, batch_size).tolist() == brute_force(src, dst, batch_size)


@pytest.mark.parametrize("sizes", [(10, 20, 100), (7, 30, 11)], ids=["shared", "separate"])
def test_profile_over_windows(sizes, monkeypatch):
    monkeypatch.setattr("pres_dist.events.discontinuity.WINDOW_EVENTS", 150)
    src, dst = np.random.default_rng(0).integers(0, 12, (2, 1_003)) * 10**15
    for row, size in zip(discontinuity_profile(src, dst, sizes), sizes, strict=True):
        counts = np.array(brute_force(src, dst, size))
        assert row.batch_size == size
        assert row.affected_share == pytest.approx((counts > 0).mean())
        assert row.mean_pending == pytest.approx(counts.mean())
        assert row.max_pending == counts.max()


def test_batch_size_must_be_positive():
    with pytest.raises(DataError, match="batch sizes must be >= 1"):
        discontinuity_profile(np.array([0]), np.array([1]), [0])
