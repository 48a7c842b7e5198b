"""Numbers of the event log about a pair equal a count of all earlier events, one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pres_dist.config.sampling import SamplingConfig
from pres_dist.events.chunk import EventChunk
from pres_dist.events.stream import EventStream
from pres_dist.sampling import event_log
from pres_dist.sampling.event_log import EventLog, PairLog, first_in_row, numbers_of
from pres_dist.sampling.growing import GrowingAdjacency, GrowingPairs, GrowingTables
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.sampling.sorted_keys import SortedPairs
from tests.support.nightly import drawn
from tests.support.random_streams import Case, cases, ids, query_times
from tests.support.slow_event_log import SlowLog

NUM = 3


def log_of(case: Case, bipartite: bool = False) -> EventLog:
    sampler = NeighborSampler(case.adjacency(), SamplingConfig(num_neighbors=NUM), 0)
    pairs = PairLog(case.stream, torch.device("cpu"), case.keep, "memory")
    return EventLog(sampler, pairs, case.tables, bipartite, common=True)


@st.composite
def queries(draw: st.DrawFn, case: Case) -> tuple[list[int], list[list[int]], list[int]]:
    """Sources, two candidates of each, and times."""
    num = draw(st.integers(1, 5))
    node = st.sampled_from(case.pool)
    times = st.sampled_from(query_times(case.stream))
    several = [draw(st.lists(each, min_size=num, max_size=num)) for each in (node, node, node)]
    src, *candidates = several
    t = draw(st.lists(times, min_size=num, max_size=num))
    return src, [list(pair) for pair in zip(*candidates, strict=True)], t


def check(log: EventLog, slow: SlowLog, src: list[int], dst: list[list[int]], t: list[int]) -> None:
    """Compare every number of every query."""
    reads = log.read(ids(src), ids(dst), ids(t))
    for row, (source, candidates, time) in enumerate(zip(src, dst, t, strict=True)):
        for place, candidate in enumerate(candidates):
            expected = slow.numbers(source, candidate, time, log.bipartite)
            assert list(expected) == list(numbers_of(log.bipartite))
            found = reads.numbers_BMF[row, place].tolist()
            assert found == pytest.approx(list(expected.values()), rel=1e-6, abs=1e-6), expected


@given(data=st.data())
@settings(max_examples=drawn(60, 3), deadline=None)
def test_numbers_equal_a_count_of_all_events(data: st.DataObject) -> None:
    case = data.draw(cases())
    log, slow = log_of(case, data.draw(st.booleans())), SlowLog(case)
    few = mock.patch.object(event_log, "RECENT_EVENTS", 5)
    with few, mock.patch("tests.support.slow_event_log.RECENT_EVENTS", 5):
        check(log, slow, *data.draw(queries(case)))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_nodes_around_a_source_are_recent_partners(data: st.DataObject) -> None:
    case, bipartite = data.draw(cases()), data.draw(st.booleans())
    log, slow = log_of(case, bipartite), SlowLog(case)
    src, dst, t = data.draw(queries(case))
    around = log.read(ids(src), ids(dst), ids(t)).around_BL
    near = log.sampler.recent
    for row, (source, candidates, time) in enumerate(zip(src, dst, t, strict=True)):
        for candidate in candidates:
            before = log.sampler.adjacency.first_event_at(ids([time]))
            own = near(ids([candidate]), before)
            neighbors = set(own.nodes_QK[own.mask_QK].tolist()) - {candidate}
            common = neighbors & set(around[row].tolist())
            assert common == slow.common(source, candidate, time, NUM, bipartite)


def test_a_query_sees_no_event_of_its_own_time_and_all_earlier_ones() -> None:
    stream = EventStream.from_arrays([0, 0, 0, 0], [1, 2, 1, 1], [5, 7, 7, 9])
    log = log_of(Case(stream, None, [0]))
    found = log.read(ids([0, 0]), ids([[1], [1]]), ids([7, 8])).numbers_BMF[:, 0]
    met, last, _, count = found[:, :4].T.tolist()
    assert met == [1, 1]
    assert last == [1, 1]
    assert np.expm1(count) == pytest.approx([1, 2])


@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_appended_events_count_as_if_they_had_been_there(data: st.DataObject) -> None:
    case = data.draw(cases().filter(lambda case: case.stream.num_nodes < 10))
    stream = case.stream
    cuts = data.draw(st.lists(st.integers(1, stream.num_events), min_size=1, max_size=3))
    first, *later = sorted({*cuts, stream.num_events})
    head = stream.head(first)
    num_known = int(max(head.src.max(), head.dst.max())) + 1
    known = replace(case, stream=replace(head, num_nodes=num_known), keep=None)
    log, tables = log_of(known), GrowingTables(known.tables)
    adjacency = GrowingAdjacency(log.sampler.adjacency, tables, stream.num_nodes)
    pairs = GrowingPairs(log.pairs, tables, known.stream.num_nodes)
    grown = log.over(tables, log.sampler.over(adjacency), pairs)
    for start, stop in zip([first, *later], later, strict=False):
        own = slice(start, stop)
        tables.append(EventChunk(stream.src[own], stream.dst[own], stream.t[own]))
        adjacency.append(stop - start)
        pairs.append()
    check(grown, SlowLog(replace(case, keep=None)), *data.draw(queries(case)))


@pytest.mark.parametrize("memory_bytes", [48 * 16, 48 * 60, 1 << 20])
@pytest.mark.parametrize("masked", [False, True])
def test_the_index_is_the_same_in_bounded_memory(
    tmp_path: Path, memory_bytes: int, masked: bool
) -> None:
    draws = np.random.default_rng(0)
    ends = draws.integers(0, 9, (2, 400)) ** 2 // 8
    ends[:, 100:250] = 3  # a pair with more events than fit
    stream = EventStream.from_arrays(*ends, np.arange(400))
    pairs = SortedPairs(stream, draws.random(400) < 0.7 if masked else None)
    file = tmp_path / "pairs.npy"
    pairs.write(file, memory_bytes)
    np.testing.assert_array_equal(np.load(file), pairs.sorted())


def test_the_index_of_a_large_stream_is_a_file_beside_it(tmp_path: Path) -> None:
    ends = np.random.default_rng(0).integers(0, 20, (2, 300))
    stream = EventStream.from_arrays(*ends, np.arange(300)).save(tmp_path / "stream")
    one, other = (PairLog(stream, torch.device("cpu"), None, home) for home in ("disk", "memory"))
    assert len(list(stream.path.glob(".pairs-*.npy"))) == 1
    query = (ids(ends[0]), ids(ends[1]), torch.arange(300))
    for found, expected in zip(one.before(*query), other.before(*query), strict=True):
        assert torch.equal(found, expected)
    EventStream.verify(stream.path)  # a hidden file is no damage


def test_the_first_in_row() -> None:
    found = first_in_row(ids([[3, 3, 5, 3, 5], [1, 2, 3, 4, 1]]))
    assert found.tolist() == [[True, False, True, False, False], [True] * 4 + [False]]
