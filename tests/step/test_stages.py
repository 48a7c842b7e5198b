"""The clock of a step: its computing told apart by ranges of an epoch."""

from __future__ import annotations

import pytest

from pres_dist.step.stages import COMPUTE, StageClock


def run(clock: StageClock, total: int, first: int = 0) -> None:
    """Steps of which the n-th computes for n seconds, and waits for one."""
    for number in range(first + 1, total + 1):
        for stage in COMPUTE:
            clock.seconds[stage] += number / len(COMPUTE)
        clock.seconds["wait"] += 1
        clock.step_ended(number, total)


def test_tenths_of_an_epoch() -> None:
    clock = StageClock()
    run(clock, 20)
    assert clock.compute_by_range == pytest.approx([2 * n - 1 + 2 * n for n in range(1, 11)])


@pytest.mark.parametrize(("total", "ranges"), [(1, 1), (7, 7), (10, 10), (23, 10)])
def test_every_step_is_in_one_range(total: int, ranges: int) -> None:
    clock = StageClock()
    run(clock, total)
    assert len(clock.compute_by_range) == ranges
    assert sum(clock.compute_by_range) == pytest.approx(total * (total + 1) / 2)


def test_an_epoch_that_goes_on_tells_of_its_rest() -> None:
    clock = StageClock()
    run(clock, 10, first=4)
    assert clock.compute_by_range == pytest.approx([5, 6, 7, 8, 9, 10])
    clock.reset()
    assert clock.compute_by_range == []
