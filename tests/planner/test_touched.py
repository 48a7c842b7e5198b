"""Distinct nodes of a slice: counted on a stream, and expected under a power law."""

from __future__ import annotations

import numpy as np
import pytest

from pres_dist.events.stream import EventStream
from pres_dist.planner.layout import Layout
from pres_dist.planner.power_law import (
    PowerLawTouches,
    assumed_touches,
    fitted_exponent,
    of_degrees,
    power_law,
)
from pres_dist.planner.touched import count_touches, of_slice
from tests.planner.made_up import small_model, workload


def pairs_in_turn(num_events: int = 2000, pairs: int = 50) -> EventStream:
    """Pair n meets at every event that leaves a remainder of n."""
    turn = np.arange(num_events) % pairs
    return EventStream.from_arrays(turn, pairs + turn, np.arange(num_events), num_sources=pairs)


def test_counts_are_those_of_a_stream_that_can_be_counted_by_hand() -> None:
    model = count_touches(pairs_in_turn(), small_model(sampling__num_neighbors=1), 200)
    for size in (4, 14, 27):  # of those that are counted
        touched = model.touched(size)
        assert touched.written == pytest.approx(2 * size)
        # A negative and its one neighbor join a pair, unless that is there already.
        assert 2 * size <= touched.pulled <= min(4 * size, 100)
    assert model.touched(200).written == pytest.approx(100)
    assert model.touched(10**6).pulled == 100


def test_events_that_are_spread_touch_more_nodes_than_as_many_in_a_row() -> None:
    """Each node has four of 200 events; one in W of them is taken by chance."""
    model = count_touches(pairs_in_turn(), small_model(), 200)
    for workers in (1, 2, 8):
        written = model.touched(200, 1 / workers).written
        assert written == pytest.approx(100 * (1 - (1 - 1 / workers) ** 4))
    # Between the shares that are counted, and beyond them.
    third, quarter, half = (model.touched(200, 1 / workers).pulled for workers in (3, 4, 2))
    assert quarter < third < half
    assert model.touched(200, 1 / 2**14).written == pytest.approx(400 / 2**14, rel=0.01)
    assert model.touched(50, 1 / 4).written == pytest.approx(25, rel=0.02)  # between sizes


def test_several_optimizer_steps_spread_a_slice_over_the_batch() -> None:
    model = count_touches(pairs_in_turn(), small_model(), 200)
    plan = Layout(4, 1, 1, 200)
    one_step, several = (workload(training__events_per_step=each) for each in (0, 50))
    assert of_slice(one_step, plan, model) == model.touched(50)
    assert of_slice(several, plan, model) == model.touched(200, 1 / 4)
    # Fifty of these in a row meet each pair once; one in four of 200 meets some twice.
    assert of_slice(several, plan, model).written < of_slice(one_step, plan, model).written


def test_messages_that_wait_are_those_of_the_last_batch_with_any() -> None:
    """A pair has four of 200 events and one of 50 or fewer."""
    for slots, expected in ((1, 1), (3, 3), (8, 4)):
        config = small_model(memory__mailbox_slots=slots)
        model = count_touches(pairs_in_turn(), config, 200, within=range(600, 1400))
        for events in (1, 27, 200):
            assert model.waiting(events, 200).written == pytest.approx(expected)
            assert model.waiting(events, 200).pulled == pytest.approx(expected)
        assert model.waiting(4, 27).written == pytest.approx(1)
        assert model.waiting(0.5, 10**6).written == pytest.approx(expected)
    between = model.waiting(4, 150).written  # of batches of 103 and of 200 events
    assert model.waiting(4, 103).written < between < 4


def test_nothing_waits_for_nodes_without_events() -> None:
    model = count_touches(pairs_in_turn(), small_model(), 200, 1, within=range(400))
    assert model.waiting(200, 200).written == 0  # the first batch of all


def test_a_fraction_of_an_event_touches_its_share() -> None:
    model = count_touches(pairs_in_turn(), small_model(), 100)
    assert model.touched(0.25).pulled == pytest.approx(model.touched(1).pulled / 4)


def test_more_events_touch_more_nodes_but_fewer_each() -> None:
    draws = np.random.default_rng(0)
    ends = (draws.zipf(1.5, (2, 6000)) - 1) % 500
    stream = EventStream.from_arrays(ends[0], 500 + ends[1], np.arange(6000))
    counted = count_touches(stream, small_model(), 1000)
    law = assumed_touches(small_model(), 1000, 6000, 500, 1.0, 0.0)
    for model in (counted, law):
        touched = [model.touched(size) for size in (1, 10, 100, 1000)]
        pulled = [one.pulled for one in touched]
        assert pulled == sorted(pulled)
        each = [one / size for one, size in zip(pulled, (1, 10, 100, 1000), strict=True)]
        assert each == sorted(each, reverse=True)
        assert all(one.written <= one.pulled for one in touched)


@pytest.mark.parametrize(("num_nodes", "exponent"), [(50, 1.0), (20_000, 1.0), (20_000, 0.5)])
def test_distinct_nodes_of_a_power_law_are_those_that_are_drawn(
    num_nodes: int, exponent: float
) -> None:
    shares = np.arange(1, num_nodes + 1) ** -exponent
    draws = np.random.default_rng(1)
    drawn = [
        len(np.unique(draws.choice(num_nodes, 700, p=shares / shares.sum()))) for _ in range(50)
    ]
    assert power_law(num_nodes, exponent).distinct(700) == pytest.approx(np.mean(drawn), rel=0.02)


def test_a_power_law_is_found_again_from_its_degrees() -> None:
    shares = np.arange(1, 3001) ** -1.2
    degrees = np.random.default_rng(2).multinomial(10**7, shares / shares.sum())
    assert fitted_exponent(of_degrees(degrees), 1000) == pytest.approx(1.2, abs=0.02)


def test_a_billion_nodes_are_no_burden() -> None:
    law = power_law(10**9, 1.0)
    assert len(law.nodes_G) < 2000
    assert law.num_nodes == 10**9
    assert float(law.nodes_G @ law.share_G) == pytest.approx(1)


@pytest.mark.parametrize("negatives", ["random", "random, historical"])
def test_drawn_events_touch_what_the_power_law_expects(negatives: str) -> None:
    """Independent draws are what the law assumes: it must then agree with counting."""
    num, events, config = (
        3000,
        40_000,
        small_model(sampling__num_neighbors=5, sampling__negatives=negatives),
    )
    shares = np.arange(1, num + 1) ** -0.8
    draws = np.random.default_rng(3)
    src, dst = draws.choice(num, (2, events), p=shares / shares.sum())
    stream = EventStream.from_arrays(src, num + dst, np.arange(events), num_sources=num)
    counted = count_touches(stream, config, 2000)
    law: PowerLawTouches = assumed_touches(config, 2 * num, events, num, 0.8, 0.0)
    for size in (50, 500, 2000):
        told, seen = law.touched(size), counted.touched(size)
        assert told.written == pytest.approx(seen.written, rel=0.03)
        assert told.observed == pytest.approx(seen.observed, rel=0.05)
        assert told.pulled == pytest.approx(seen.pulled, rel=0.1)


def test_drawn_events_leave_the_messages_that_the_power_law_expects() -> None:
    num, events = 300, 40_000
    config = small_model(sampling__num_neighbors=5, memory__mailbox_slots=4)
    shares = np.arange(1, num + 1) ** -0.8
    draws = np.random.default_rng(4)
    src, dst = draws.choice(num, (2, events), p=shares / shares.sum())
    stream = EventStream.from_arrays(src, num + dst, np.arange(events), num_sources=num)
    # Not from the beginning, where no batch was before.
    counted = count_touches(stream, config, 2000, within=range(4000, 28_000))
    law: PowerLawTouches = assumed_touches(config, 2 * num, events, num, 0.8, 0.0)
    for size, batch in ((50, 50), (50, 500), (500, 500), (50, 2000), (2000, 2000)):
        told, seen = law.waiting(size, batch), counted.waiting(size, batch)
        assert told.written == pytest.approx(seen.written, rel=0.05)
        assert told.pulled == pytest.approx(seen.pulled, rel=0.05)
