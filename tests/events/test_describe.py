from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from pres_dist.events.describe import _degrees, _repeat_share, describe, print_summary
from pres_dist.events.stream import EventStream


@pytest.fixture
def stream():
    return EventStream.from_arrays(
        src=[0, 0, 1, 2, 0, 3],
        dst=[1, 1, 0, 2, 3, 0],
        t=[1, 2, 2, 2, 5, 6],
        labels=[0, 0, 0, 0, 7, 0],
        num_nodes=6,
        metadata={"time_unit": "s"},
    )


def test_figures(stream):
    summary = describe(stream)
    assert (summary.num_events, summary.num_nodes, summary.active_nodes) == (6, 6, 4)
    assert (summary.first_t, summary.last_t, summary.time_unit) == (1, 6, "s")
    assert summary.tied_share == 3 / 6
    assert summary.largest_tie == 3
    assert summary.repeat_share == pytest.approx(1 / 6)
    assert summary.self_loops == 1
    assert summary.max_degree == 5
    assert summary.top_percent_share == 5 / 12
    assert summary.label_counts == {0: 5, 7: 1}
    assert json.loads(json.dumps(summary.to_dict()))["num_events"] == 6


def test_unseen_test_nodes():
    stream = EventStream.from_arrays([0] * 20, [1] * 18 + [2, 1], np.arange(20))
    assert describe(stream).unseen_test_share == pytest.approx(1 / 3)


def test_one_event_cannot_be_split():
    assert describe(EventStream.from_arrays([0], [1], [0])).unseen_test_share is None


def test_ids_that_are_sparse_and_large():
    src, dst = np.random.default_rng(0).integers(0, 30, (2, 500))
    factor = 10**17
    dense = EventStream.from_arrays(src, dst, np.arange(500))
    sparse = EventStream.from_arrays(src * factor, dst * factor, np.arange(500))
    assert sorted(_degrees(sparse)) == sorted(_degrees(dense))
    distinct = len(np.unique(src * 30 + dst))
    assert _repeat_share(sparse) == _repeat_share(dense) == pytest.approx(1 - distinct / 500)


def test_ten_days_of_equal_times():
    """As every query sees it: a day's events are one batch, and none is before another."""
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 40, 4_000), rng.integers(40, 60, 4_000)
    stream = EventStream.from_arrays(src, dst, np.repeat(np.arange(10), 400))
    summary = describe(stream, batch_sizes=[100, 500])
    seen: set[tuple[int, int]] = set()
    repeats = 0
    for day in range(10):
        rows = slice(day * 400, day * 400 + 400)
        pairs = list(zip(src[rows].tolist(), dst[rows].tolist(), strict=True))
        repeats += sum(pair in seen for pair in pairs)
        seen.update(pairs)
    assert summary.repeat_share == pytest.approx(repeats / 4_000)
    for row in summary.discontinuity:
        assert (row.num_batches, row.largest_batch) == (10, 400)
        assert 14 < row.mean_pending < 16


def test_tables(stream, capsys):
    print_summary(describe(stream, batch_sizes=[2, 5]), Console(width=100))
    shown = capsys.readouterr().out
    assert "temporal discontinuity" in shown
    assert "events sharing their time" in shown
