from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.config.sampling import SamplingConfig
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import batch_of
from pres_dist.step.gather import gather, gather_endpoints
from tests.support.nightly import drawn

EPOCH_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Case:
    """A stream, a temporal batch of it with negatives, and how neighbors are drawn."""

    stream: EventStream
    keep: np.ndarray | None
    events: list[int]
    negatives: list[list[int]]
    num_neighbors: int

    def gather(self, num_hops, strategy="recent"):
        tables = EventTables(self.stream)
        adjacency = TemporalAdjacency(self.stream, tables, self.keep)
        config = SamplingConfig(num_neighbors=self.num_neighbors, strategy=strategy)
        batch = batch_of(tables, torch.tensor(self.events))
        negatives_BM = torch.tensor(self.negatives, dtype=torch.int64)
        negatives_BM = negatives_BM.view(len(self.events), -1)
        sampler = NeighborSampler(adjacency, config, seed=5)
        return gather(batch, negatives_BM, sampler, tables, num_hops, epoch=1)

    def roots(self):
        """(node, time) of each query: sources, destinations, negatives event by event."""
        t = self.stream.t[self.events].tolist()
        ends = [self.stream.src[self.events].tolist(), self.stream.dst[self.events].tolist()]
        queries = [query for end in ends for query in zip(end, t, strict=True)]
        return queries + [
            (node, time) for row, time in zip(self.negatives, t, strict=True) for node in row
        ]

    def past(self, node, t):
        """Events of a node strictly before a time, by looking at every one."""
        return [
            event
            for event in range(self.stream.num_events)
            if self.stream.t[event] < t
            and node in (self.stream.src[event], self.stream.dst[event])
            and (self.keep is None or self.keep[event])
        ]

    def partner(self, node, event):
        src, dst = int(self.stream.src[event]), int(self.stream.dst[event])
        return dst if src == node else src


@st.composite
def cases(draw):
    num_events = draw(st.sampled_from([2, 6, 15, 25]))
    nodes = st.lists(st.integers(0, 5), min_size=num_events, max_size=num_events)
    gaps = draw(st.lists(st.sampled_from([0, 1, 3]), min_size=num_events, max_size=num_events))
    origin = draw(st.sampled_from([0, EPOCH_MS]))
    features = draw(st.booleans())
    stream = EventStream.from_arrays(
        draw(nodes),
        draw(nodes),
        origin + np.cumsum(gaps),
        num_nodes=8,
        edge_features=np.arange(2 * num_events).reshape(-1, 2) if features else None,
    )
    masks = st.lists(st.booleans(), min_size=num_events, max_size=num_events).filter(any)
    keep = draw(st.none() | masks)
    # Any part of the stream, but often its end, where there is most to be seen.
    start = draw(st.sampled_from([0, num_events // 2, num_events - 1]))
    events = list(range(start, draw(st.sampled_from([start + 1, num_events]))))
    num_negatives = draw(st.integers(0, 3))
    rows = st.lists(st.integers(0, 7), min_size=num_negatives, max_size=num_negatives)
    negatives = [draw(rows) for _ in events]
    return Case(
        stream,
        None if keep is None else np.array(keep),
        events,
        negatives,
        draw(st.integers(1, 3)),
    )


def check_hop(case, gathered, hop, queries, strategy):
    """Compare a hop with loops over its queries; return the queries of the next hop."""
    nodes_U = gathered.nodes_U
    assert nodes_U[hop.index_Q].tolist() == [node for node, _ in queries]
    assert hop.t_Q.tolist() == [t for _, t in queries]
    slots = []
    for row, (node, t) in enumerate(queries):
        past = case.past(node, t)
        number = min(case.num_neighbors, len(past))
        mask = hop.mask_QK[row].tolist()
        assert mask == [False] * (case.num_neighbors - number) + [True] * number
        neighbors, times = nodes_U[hop.index_QK[row]].tolist(), hop.t_QK[row].tolist()
        drawn = list(zip(neighbors, times, strict=True))
        found = [slot for slot, full in zip(drawn, mask, strict=True) if full]
        possible = [(case.partner(node, event), int(case.stream.t[event])) for event in past]
        if strategy == "recent":
            assert found == possible[len(past) - number :]
        assert set(found) <= set(possible)
        assert all(time < t for _, time in found)
        slots += [slot if full else None for slot, full in zip(drawn, mask, strict=True)]
    return slots


@settings(max_examples=drawn(120, 3))
@given(
    case=cases(), num_hops=st.sampled_from([1, 2]), strategy=st.sampled_from(["recent", "uniform"])
)
def test_hops_against_loops(case, num_hops, strategy):
    gathered = case.gather(num_hops, strategy)
    assert len(gathered.hops) == num_hops
    queries = case.roots()
    for hop in gathered.hops:
        slots = check_hop(case, gathered, hop, queries, strategy)
        # Empty slots are queries of the next hop too, but see nothing.
        flat_index, flat_t = hop.index_QK.flatten(), hop.t_QK.flatten()
        first_t = int(case.stream.t[0])
        queries = queries + [
            slot if slot is not None else (int(gathered.nodes_U[index]), first_t)
            for slot, index, t in zip(slots, flat_index.tolist(), flat_t.tolist(), strict=True)
        ]


@settings(max_examples=drawn(100, 3))
@given(case=cases(), num_hops=st.sampled_from([0, 1, 2]))
def test_nodes_are_distinct_and_all_are_read(case, num_hops):
    gathered = case.gather(num_hops)
    nodes = gathered.nodes_U.tolist()
    assert nodes == sorted(set(nodes))
    src, dst = (column[case.events].tolist() for column in (case.stream.src, case.stream.dst))
    assert gathered.nodes_U[gathered.index_2B].tolist() == src + dst
    assert gathered.nodes_U[gathered.index_BM].tolist() == case.negatives
    read = {gathered.nodes_U[index].item() for index in gathered.index_2B.tolist()}
    read |= {node for row in case.negatives for node in row}
    for hop in gathered.hops:
        read |= set(gathered.nodes_U[hop.index_QK[hop.mask_QK]].tolist())
    # Empty slots add nobody to the batch.
    assert read == set(nodes)


@settings(max_examples=drawn(60, 3))
@given(case=cases())
def test_edge_features_are_those_of_the_events(case):
    for hop in case.gather(2).hops:
        if case.stream.edge_features is None:
            assert hop.edges is None
            continue
        assert hop.edges is not None
        features_QKd = hop.edges.dense_QKd
        assert features_QKd.shape == (*hop.mask_QK.shape, 2)
        # The first feature of an event is twice its id.
        events = (features_QKd[..., 0] / 2).long()[hop.mask_QK]
        assert case.stream.t[events.numpy()].tolist() == hop.t_QK[hop.mask_QK].tolist()


def test_a_neighbor_of_a_neighbor_by_hand():
    """Sampled before the event that made its neighbor one, not before the batch."""
    # 1-2 at time 1, then 0-1 at 2, then 1-3 at 3 and the query 0-4 at 5; 2-5 at 1 is a tie.
    stream = EventStream.from_arrays([1, 2, 0, 1, 0], [2, 5, 1, 3, 4], [1, 1, 2, 3, 5], num_nodes=7)
    gathered = Case(stream, None, [4], [[6]], 2).gather(2)
    first, second = gathered.hops
    node = gathered.nodes_U
    assert first.mask_QK.tolist() == [[False, True], [False, False], [False, False]]
    assert node[first.index_QK[0, 1]] == 1
    assert first.t_QK[0, 1] == 2
    # Queries of the second hop: the 3 roots again, then their 6 slots.
    assert second.index_Q.numel() == 9
    assert node[second.index_Q].tolist() == [0, 4, 6, 0, 1, 4, 4, 6, 6]
    of_one = 4
    assert second.t_Q[of_one] == 2
    # Node 1 at time 2 knows 2 (at time 1), but neither 0 (at 2) nor 3 (at 3).
    assert second.mask_QK[of_one].tolist() == [False, True]
    assert node[second.index_QK[of_one, 1]] == 2
    assert second.t_QK[of_one, 1] == 1
    assert not second.mask_QK[[3, 5, 6, 7, 8]].any()
    assert second.mask_QK[0].tolist() == first.mask_QK[0].tolist()
    assert 5 not in node.tolist()
    assert 3 not in node.tolist()


def test_events_of_the_own_batch_at_other_times_are_neighbors():
    """Memory is from before the batch; the histories of later events include earlier ones."""
    stream = EventStream.from_arrays([0, 0, 0], [1, 2, 3], [1, 2, 2])
    hop = Case(stream, None, [0, 1, 2], [[], [], []], 4).gather(1).hops[0]
    assert hop.mask_QK.sum(1).tolist() == [0, 1, 1, 0, 0, 0]
    assert hop.t_QK[hop.mask_QK].tolist() == [1, 1]


def test_without_hops_there_are_queries_but_no_neighbors():
    stream = EventStream.from_arrays([0, 3], [1, 4], [1, 2])
    gathered = Case(stream, None, [0, 1], [[4], [1]], 3).gather(0)
    (hop,) = gathered.hops
    assert gathered.nodes_U[hop.index_Q].tolist() == [0, 3, 1, 4, 4, 1]
    assert hop.t_Q.tolist() == [1, 2, 1, 2, 1, 2]
    assert hop.index_QK.shape == hop.t_QK.shape == hop.mask_QK.shape == (6, 0)


@settings(max_examples=drawn(60, 3))
@given(case=cases())
def test_endpoints_alone(case):
    tables = EventTables(case.stream)
    gathered = gather_endpoints(batch_of(tables, torch.tensor(case.events)))
    src, dst = (column[case.events].tolist() for column in (case.stream.src, case.stream.dst))
    assert gathered.nodes_U.tolist() == sorted({*src, *dst})
    assert gathered.nodes_U[gathered.index_2B].tolist() == src + dst
    assert gathered.index_BM.shape == (len(case.events), 0)
    assert list(gathered.hops) == []


@pytest.mark.parametrize("num_hops", [1, 2])
def test_uniform_hops_are_the_same_for_each_part_of_a_batch(num_hops):
    """A query draws the same neighbors, whichever other queries stand beside it."""
    random = np.random.default_rng(0)
    src, dst = random.integers(0, 4, (2, 60))
    stream = EventStream.from_arrays(src, dst, np.arange(60), num_nodes=6)

    def neighbors_of_event(events, event):
        case = Case(stream, None, events, [[5]] * len(events), 2)
        gathered = case.gather(num_hops, "uniform")
        row = events.index(event)
        hop = gathered.hops[0]
        return gathered.nodes_U[hop.index_QK[row]].tolist(), hop.t_QK[row].tolist()

    whole = list(range(40, 60))
    for event in (40, 47, 59):
        expected = neighbors_of_event(whole, event)
        assert neighbors_of_event([event], event) == expected
        assert neighbors_of_event([event - 3, event], event) == expected
