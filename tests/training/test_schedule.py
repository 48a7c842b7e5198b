"""Segments of the training split, and where an epoch stops for checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from pres_dist.step.batches import TemporalLoader
from pres_dist.training.schedule import Schedule, stretches


@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
@pytest.mark.parametrize("num_events", [1, 10, 57])
def test_segments_hold_every_batch_once(replicas: int, num_events: int) -> None:
    times = np.arange(num_events) // 3  # ties, which no segment parts
    sweep = TemporalLoader(range(num_events), times, 4)
    schedule = Schedule(sweep, replicas)
    segments = [
        [schedule.batch_number(step, replica) for step in range(schedule.num_steps)]
        for replica in range(replicas)
    ]
    trained = [number for segment in segments for number in segment if number is not None]
    assert trained == list(range(len(sweep)))
    assert all(None not in segment[:-1] for segment in segments)  # they differ by one at most
    for step in range(schedule.num_steps):
        now = [segment[step] for segment in segments]
        events = [sweep.events_before(n + 1) - sweep.events_before(n) for n in now if n is not None]
        assert sum(schedule.sizes(step)) == sum(events)
    assert schedule.events_before(schedule.num_steps) == sweep.num_events == num_events
    for replica in range(1, replicas):
        start = segments[replica][0]
        border = num_events if start is None else sweep.events_before(start)
        assert border == num_events or border == 0 or times[border - 1] < times[border]


def test_an_epoch_stops_where_the_run_has_done_so_many_steps() -> None:
    def cuts(first: int, before: int, every: int) -> list[list[int]]:
        return [list(steps) for steps in stretches(first, 7, before, every)]

    assert cuts(0, 0, 0) == [[0, 1, 2, 3, 4, 5, 6]]
    assert cuts(0, 0, 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert cuts(0, 7, 3) == [[0, 1], [2, 3, 4], [5, 6]]
    assert cuts(2, 9, 3) == [[2, 3, 4], [5, 6]]  # resumed after step 9 of the run
    assert cuts(7, 7, 3) == []
