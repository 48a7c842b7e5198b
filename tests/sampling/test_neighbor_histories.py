from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.config.sampling import SamplingConfig
from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling import sorted_keys
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.neighbors import NeighborSampler
from tests.support.nightly import drawn
from tests.support.random_streams import (
    INT64_MAX,
    cases,
    first_at,
    history,
    ids,
    partner,
    query_times,
)


def sampler_of(adjacency, num, strategy="recent", seed=0):
    config = SamplingConfig(num_neighbors=num, strategy=strategy)
    return NeighborSampler(adjacency, config, seed)


def stream_of(src, dst, t, **options):
    stream = EventStream.from_arrays(src, dst, t, **options)
    return stream, TemporalAdjacency(stream, EventTables(stream))


def events_of(sampled, row=0):
    return sampled.events_QK[row][sampled.mask_QK[row]].tolist()


def all_queries(case):
    """Every node of the pool at every time, as (nodes, times)."""
    pairs = [(node, t) for node in case.pool for t in query_times(case.stream)]
    return ids([node for node, _ in pairs]), ids([t for _, t in pairs])


# ---------------------------------------------------------------- adjacency


@settings(max_examples=drawn(80, 3))
@given(case=cases(), data=st.data())
def test_history_against_a_loop(case, data):
    adjacency = case.adjacency()
    since = data.draw(st.integers(0, case.stream.num_events))
    nodes_Q, t_Q = all_queries(case)
    before_Q = adjacency.first_event_at(t_Q)
    assert before_Q.tolist() == [first_at(case.stream, t) for t in t_Q.tolist()]
    start_Q, end_Q = adjacency.history(nodes_Q, before_Q, since)
    for node, before, start, end in zip(
        *(column.tolist() for column in (nodes_Q, before_Q, start_Q, end_Q)), strict=True
    ):
        expected = history(case, node, before, since)
        assert end - start == len(expected)
        if not expected:
            continue
        positions = torch.arange(start, end)
        nodes = torch.full_like(positions, node)
        events = adjacency.event_at(nodes, positions)
        assert events.tolist() == expected
        others = adjacency.other_endpoint(nodes, events)
        assert others.tolist() == [partner(case.stream, node, event) for event in expected]
        assert adjacency.times(events).tolist() == case.stream.t[expected].tolist()


@settings(max_examples=drawn(60, 3))
@given(case=cases())
def test_number_of_half_edges(case):
    everything = [
        event
        for node in set(case.stream.src.tolist() + case.stream.dst.tolist())
        for event in history(case, node, case.stream.num_events)
    ]
    assert case.adjacency().num_half_edges == len(everything)


def test_ids_whose_keys_would_be_equal_modulo_2_to_64():
    """With 4 events the keys of nodes 0 and 2^62 fall together when they overflow."""
    _, adjacency = stream_of([0, 1 << 62, 0, 1 << 62], [7, 8, 9, 7], [0, 1, 2, 3])
    sampled = sampler_of(adjacency, 4).sample(ids([0, 1 << 62, 7, 5]), ids([4, 4, 4, 4]))
    assert [events_of(sampled, row) for row in range(4)] == [[0, 2], [1, 3], [0, 3], []]
    assert sampled.nodes_QK[1].tolist() == [1 << 62, 1 << 62, 8, 7]


def test_node_ids_up_to_the_largest():
    top = INT64_MAX - 1
    _, adjacency = stream_of([top, 3, top], [3, top, top], [5, 5, 6])
    sampled = sampler_of(adjacency, 3).sample(ids([top, 3, top - 1]), ids([3, 3, 3]))
    assert [events_of(sampled, row) for row in range(3)] == [[0, 1, 2], [0, 1], []]
    assert sampled.nodes_QK[0].tolist() == [3, 3, top]


def test_more_nodes_times_events_than_can_be_indexed(monkeypatch):
    monkeypatch.setattr(sorted_keys, "_INT64_LIMIT", 12)
    with pytest.raises(DataError, match="4 nodes x 3 events is beyond"):
        stream_of([0, 1, 2], [1, 2, 900], [0, 1, 2])
    # One node fewer can be indexed by rank.
    _, adjacency = stream_of([0, 1, 1], [1, 900, 900], [0, 1, 2])
    assert events_of(sampler_of(adjacency, 3).sample(ids([900]), ids([3]))) == [1, 2]


@settings(max_examples=drawn(60, 3))
@given(case=cases())
def test_other_endpoint_keeps_the_shape_of_a_grid(case):
    adjacency = case.adjacency()
    events = torch.arange(case.stream.num_events).repeat(2, 1)
    nodes = ids(np.stack([case.stream.src, case.stream.dst]))
    expected = np.stack([case.stream.dst, case.stream.src])
    assert adjacency.other_endpoint(nodes, events).tolist() == expected.tolist()


def test_no_event_kept():
    stream = EventStream.from_arrays([0, 1], [1, 2], [0, 1])
    adjacency = TemporalAdjacency(stream, EventTables(stream), np.zeros(2, dtype=bool))
    sampled = sampler_of(adjacency, 2).sample(ids([0, 1]), ids([2, 2]))
    assert not sampled.mask_QK.any()


@pytest.fixture
def warn_always():
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("warn_always")
def test_huge_ids_cause_no_warning():
    _, adjacency = stream_of([0, 1 << 62], [7, 8], [0, 1])
    sampler_of(adjacency, 4).sample(ids([0, 1 << 62]), ids([2, 2]))


# ------------------------------------------------------------- most recent


@settings(max_examples=drawn(80, 3))
@given(case=cases(), num=st.integers(1, 6))
def test_recent_against_a_loop(case, num):
    adjacency = case.adjacency()
    nodes_Q, t_Q = all_queries(case)
    before_Q = adjacency.first_event_at(t_Q)
    sampled = sampler_of(adjacency, num).sample(nodes_Q, before_Q)
    for row, (node, t) in enumerate(zip(nodes_Q.tolist(), t_Q.tolist(), strict=True)):
        expected = history(case, node, first_at(case.stream, t))[-num:]
        empty = num - len(expected)
        assert sampled.mask_QK[row].tolist() == [False] * empty + [True] * len(expected)
        assert sampled.events_QK[row].tolist() == [0] * empty + expected
        partners = [partner(case.stream, node, event) for event in expected]
        assert sampled.nodes_QK[row].tolist() == [node] * empty + partners
        assert all(case.stream.t[event] < t for event in events_of(sampled, row))


@pytest.mark.parametrize("strategy", ["recent", "uniform"])
@pytest.mark.parametrize("node", [0, 1])
def test_the_oldest_edge_is_returned(strategy, node):
    _, adjacency = stream_of([0, 0, 0], [1, 1, 1], [0, 1, 2])
    for num in (3, 4):
        sampled = sampler_of(adjacency, num, strategy).sample(ids([node]), ids([3]))
        assert events_of(sampled) == [0, 1, 2]
    assert events_of(sampler_of(adjacency, 1, strategy).sample(ids([node]), ids([1]))) == [0]


@pytest.mark.parametrize("strategy", ["recent", "uniform"])
def test_events_at_the_time_of_the_query_take_no_slot(strategy):
    """The positive's own event must not push one of its neighbors out."""
    _, adjacency = stream_of([0, 0, 0, 0, 0], [1, 2, 3, 4, 5], [10, 20, 30, 30, 40])
    for t, expected in (
        (30, [0, 1]),
        (31, [2, 3]),
        (29, [0, 1]),
        (20, [0]),
        (10, []),
        (50, [3, 4]),
    ):
        sampled = sampler_of(adjacency, 2).sample(ids([0]), adjacency.first_event_at(ids([t])))
        assert events_of(sampled) == expected
    at_30 = sampler_of(adjacency, 2, strategy).sample(ids([0]), adjacency.first_event_at(ids([30])))
    assert events_of(at_30) == [0, 1]


def test_a_self_loop_counts_once():
    _, adjacency = stream_of([0, 1, 1, 1], [1, 1, 1, 2], [0, 1, 2, 3])
    assert adjacency.num_half_edges == 6
    sampled = sampler_of(adjacency, 3).sample(ids([1]), ids([4]))
    assert events_of(sampled) == [1, 2, 3]
    assert sampled.nodes_QK.tolist() == [[1, 1, 2]]
    sampled = sampler_of(adjacency, 5).sample(ids([1]), ids([4]))
    assert events_of(sampled) == [0, 1, 2, 3]


def test_masked_events_take_no_slot_either():
    stream = EventStream.from_arrays([0, 0, 0, 0], [1, 2, 3, 4], [0, 1, 2, 3])
    keep = np.array([True, False, True, False])
    adjacency = TemporalAdjacency(stream, EventTables(stream), keep)
    sampled = sampler_of(adjacency, 2).sample(ids([0, 2, 4]), ids([4, 4, 4]))
    assert [events_of(sampled, row) for row in range(3)] == [[0, 2], [], []]


# ----------------------------------------------------------------- uniform


@settings(max_examples=drawn(80, 3))
@given(case=cases(), num=st.integers(1, 6), seed=st.integers(0, 1 << 40), epoch=st.integers(0, 99))
def test_uniform_is_an_ordered_subset_of_the_history(case, num, seed, epoch):
    adjacency = case.adjacency()
    nodes_Q, t_Q = all_queries(case)
    before_Q = adjacency.first_event_at(t_Q)
    sampled = sampler_of(adjacency, num, "uniform", seed).sample(nodes_Q, before_Q, epoch)
    for row, (node, before) in enumerate(zip(nodes_Q.tolist(), before_Q.tolist(), strict=True)):
        past = history(case, node, before)
        drawn = events_of(sampled, row)
        assert len(drawn) == min(num, len(past))
        assert drawn == sorted(set(drawn))
        assert set(drawn) <= set(past)
        empty = num - len(drawn)
        assert sampled.mask_QK[row].tolist() == [False] * empty + [True] * len(drawn)
        partners = [partner(case.stream, node, event) for event in drawn]
        assert sampled.nodes_QK[row].tolist() == [node] * empty + partners
        assert sampled.events_QK[row, :empty].tolist() == [0] * empty


NUM_STARS = 3000


def stars(length):
    """Many nodes with a history of the same length each, all with one hub."""
    src = np.tile(np.arange(NUM_STARS), length)
    stream, adjacency = stream_of(src, np.full_like(src, NUM_STARS), np.arange(src.size))
    nodes_Q = torch.arange(NUM_STARS)
    return adjacency, nodes_Q, torch.full((NUM_STARS,), stream.num_events)


@pytest.mark.parametrize(("num", "length"), [(1, 2), (3, 7), (5, 6), (4, 8), (2, 25)])
def test_uniform_draws_each_event_alike(num, length):
    adjacency, nodes_Q, before_Q = stars(length)
    sampled = sampler_of(adjacency, num, "uniform", seed=3).sample(nodes_Q, before_Q)
    assert sampled.mask_QK.all()
    place_QK = sampled.events_QK // NUM_STARS
    observed = torch.bincount(place_QK.flatten(), minlength=length).double() / NUM_STARS
    share = num / length
    assert (observed - share).abs().max() < 4.5 * math.sqrt(share * (1 - share) / NUM_STARS)


def test_uniform_draws_depend_on_seed_and_epoch_only():
    adjacency, nodes_Q, before_Q = stars(9)
    sampler = sampler_of(adjacency, 3, "uniform", seed=1)
    whole = sampler.sample(nodes_Q, before_Q, epoch=4).events_QK
    order = torch.randperm(NUM_STARS, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        sampler.sample(nodes_Q[order], before_Q[order], epoch=4).events_QK, whole[order]
    )
    halves = [
        sampler.sample(nodes_Q[part], before_Q[part], epoch=4).events_QK
        for part in (slice(0, 7), slice(7, None))
    ]
    assert torch.equal(torch.cat(halves), whole)
    other_seed = sampler_of(adjacency, 3, "uniform", seed=2)
    for other in (
        sampler.sample(nodes_Q, before_Q, epoch=5),
        other_seed.sample(nodes_Q, before_Q, 4),
    ):
        assert (other.events_QK != whole).any(1).double().mean() > 0.5


def test_uniform_differs_between_queries_of_one_node():
    """Not one offset for all: queries at different times draw on their own."""
    _, adjacency = stream_of([0] * 400, [1] * 400, np.arange(400))
    before_Q = torch.arange(200, 400)
    sampled = sampler_of(adjacency, 1, "uniform").sample(torch.zeros_like(before_Q), before_Q)
    place = sampled.events_QK[:, 0].double() / before_Q
    assert place.min() < 0.1
    assert place.max() > 0.9
