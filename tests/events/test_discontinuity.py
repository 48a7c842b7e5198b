from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.errors import DataError
from pres_dist.events.discontinuity import _Window, discontinuity_profile
from pres_dist.events.split import batch_bounds
from pres_dist.step.batches import TemporalLoader


def starts_of(t, batch_size):
    """First events of the batches, by looking at every cut."""
    starts = [0]
    while starts[-1] + batch_size < len(t):
        cut = starts[-1] + batch_size
        while cut > starts[-1] and t[cut - 1] == t[cut]:
            cut -= 1
        if cut == starts[-1]:
            while cut < len(t) and t[cut] == t[starts[-1]]:
                cut += 1
        if cut == len(t):
            break
        starts.append(cut)
    return starts


def brute_force(src, dst, t, batch_size):
    """Count by looking at every earlier event of the batch."""
    counts, start = [], 0
    starts = starts_of(t, batch_size)
    for event in range(len(src)):
        start = event if event in starts else start
        ends = {src[event], dst[event]}
        batch = range(start, event)
        counts.append(sum(1 for earlier in batch if ends & {src[earlier], dst[earlier]}))
    return counts


node = st.integers(0, 6)


@given(st.lists(st.tuples(node, node, node), min_size=1, max_size=60), st.integers(1, 70))
def test_equals_brute_force(events, batch_size):
    src, dst, gaps = np.array(events).T
    t = np.cumsum(gaps // 5)
    batches = np.searchsorted(batch_bounds(t, batch_size), np.arange(len(src)), side="right")
    found = _Window(src, dst).pending(batches)
    assert found.tolist() == brute_force(src, dst, t, batch_size)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=80), st.integers(1, 50))
def test_batches_are_those_of_training(gaps, batch_size):
    t = np.cumsum(gaps)
    zeros = np.zeros(len(t), np.int64)
    (row,) = discontinuity_profile(zeros, zeros, t, [batch_size])
    sweep = TemporalLoader(range(len(t)), t, batch_size)
    sizes = [
        sweep.events_before(batch + 1) - sweep.events_before(batch) for batch in range(len(sweep))
    ]
    assert (row.num_batches, row.largest_batch) == (len(sizes), max(sizes))
    assert sweep.largest_batch == max(sizes)
    # All events touch node 0: each has all earlier ones of its batch pending.
    assert row.max_pending == max(sizes) - 1
    assert row.mean_pending == pytest.approx(sum(n * (n - 1) / 2 for n in sizes) / len(t))


@pytest.mark.parametrize("sizes", [(10, 20, 100), (7, 30, 11)], ids=["shared", "separate"])
@pytest.mark.parametrize("most_gap", [1, 2, 60])
def test_profile_over_windows(sizes, most_gap, monkeypatch):
    monkeypatch.setattr("pres_dist.events.discontinuity.WINDOW_EVENTS", 150)
    random = np.random.default_rng(0)
    src, dst = random.integers(0, 12, (2, 1_003)) * 10**15
    t = np.cumsum(random.integers(0, most_gap, 1_003) // max(1, most_gap - 2))
    for row, size in zip(discontinuity_profile(src, dst, t, sizes), sizes, strict=True):
        counts = np.array(brute_force(src, dst, t, size))
        assert row.batch_size == size
        assert row.affected_share == pytest.approx((counts > 0).mean())
        assert row.mean_pending == pytest.approx(counts.mean())
        assert row.max_pending == counts.max()


def test_batch_size_must_be_positive():
    with pytest.raises(DataError, match="batch sizes must be >= 1"):
        discontinuity_profile(np.array([0]), np.array([1]), np.array([0]), [0])
