from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.step.batches import TemporalLoader, batch_of
from tests.support.nightly import drawn

EPOCH_MS = 1_700_000_000_000


def stream_at(t):
    """A stream at the given times, whose columns say which event they are of."""
    numbers = np.arange(len(t))
    return EventStream.from_arrays(numbers, numbers + 1000, np.asarray(t))


@st.composite
def sweeps(draw):
    """A stream with ties, events of it (a range or some ids) and a batch size."""
    num_events = draw(st.sampled_from([1, 3, 10, 25, 40]))
    steps = st.sampled_from([0, 0, 1, 1, 50])
    gaps = draw(st.lists(steps, min_size=num_events, max_size=num_events))
    origin = draw(st.sampled_from([0, EPOCH_MS, -30]))
    stream = stream_at(origin + np.cumsum(gaps))
    if draw(st.booleans()):
        middle = num_events // 2
        events = range(draw(st.integers(0, middle)), draw(st.integers(middle, num_events)))
    else:
        kept = draw(st.lists(st.booleans(), min_size=num_events, max_size=num_events))
        events = np.flatnonzero(kept)
    return stream, events, draw(st.integers(1, 12))


def runs(t):
    """Lengths of the runs of equal times."""
    lengths, last = [], None
    for time in t:
        if lengths and time == last:
            lengths[-1] += 1
        else:
            lengths.append(1)
        last = time
    return lengths


def packed(t, batch_size):
    """Sizes of batches: as many whole runs as fit, but always at least one."""
    sizes = []
    for length in runs(t):
        if sizes and sizes[-1] + length <= batch_size:
            sizes[-1] += length
        else:
            sizes.append(length)
    return sizes


@settings(max_examples=drawn(200, 3))
@given(sweeps())
def test_batches_cover_the_events_in_whole_runs(case):
    stream, events, batch_size = case
    sweep = TemporalLoader(events, stream.t, batch_size)
    batches = list(sweep.batches(EventTables(stream)))
    assert [event for batch in batches for event in batch.events_B.tolist()] == list(events)
    assert sweep.num_events == len(events)
    assert len(sweep) == len(batches)
    for earlier, later in pairwise(batches):
        assert earlier.t_B[-1] < later.t_B[0]
    sizes = [batch.events_B.numel() for batch in batches]
    assert sizes == packed(stream.t[np.asarray(events, dtype=np.int64)].tolist(), batch_size)
    assert [sweep.events_before(i) for i in range(len(sweep) + 1)] == [0, *np.cumsum(sizes)]


@settings(max_examples=drawn(100, 3))
@given(sweeps(), st.data())
def test_resuming_gives_the_batches_that_were_left(case, data):
    stream, events, batch_size = case
    tables, sweep = EventTables(stream), TemporalLoader(events, stream.t, batch_size)
    first = data.draw(st.integers(0, len(sweep)))
    rest = [sweep.batch(tables, left).events_B.tolist() for left in range(first, len(sweep))]
    assert rest == [batch.events_B.tolist() for batch in sweep.batches(tables)][first:]
    assert sum(map(len, rest)) == len(events) - sweep.events_before(first)


@pytest.mark.parametrize("kept", [False, True])
def test_columns_are_those_of_the_events(kept):
    stream = stream_at([EPOCH_MS + 5 * (i // 2) for i in range(10)])
    events = np.array([1, 4, 5, 8]) if kept else range(3, 9)
    batches = TemporalLoader(events, stream.t, 3).batches(EventTables(stream))
    for batch in batches:
        assert torch.equal(batch.src_B, batch.events_B)
        assert torch.equal(batch.dst_B, batch.events_B + 1000)
        assert batch.t_B.tolist() == stream.t[batch.events_B.numpy()].tolist()
        assert batch.events_B.dtype == batch.t_B.dtype == torch.int64


@pytest.mark.parametrize(
    ("t", "batch_size", "sizes"),
    [
        ([1, 2, 3, 4, 5, 6, 7], 3, [3, 3, 1]),  # no ties: sizes as asked for
        ([1, 2, 3, 3, 4, 5], 3, [2, 3, 1]),  # back to the start of the run
        ([1, 1, 1, 1, 1, 2], 3, [5, 1]),  # on to its end where the batch would be empty
        ([1, 2, 2, 2, 2, 3, 4], 2, [1, 4, 2]),
        ([1, 2, 3, 3, 4], 4, [4, 1]),  # a cut that parts nothing stays
        ([7, 7, 7], 1, [3]),
        ([1, 2], 100, [2]),
    ],
)
def test_sizes_by_hand(t, batch_size, sizes):
    stream = stream_at(t)
    sweep = TemporalLoader(range(len(t)), stream.t, batch_size)
    batches = list(sweep.batches(EventTables(stream)))
    assert [batch.events_B.numel() for batch in batches] == sizes


def test_a_part_in_the_middle_of_the_stream():
    stream = stream_at([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    sweep = TemporalLoader(range(1, 9), stream.t, 3)
    batches = [batch.events_B.tolist() for batch in sweep.batches(EventTables(stream))]
    assert batches == [[1, 2, 3], [4, 5], [6, 7, 8]]


def test_a_tie_split_by_left_out_events_stays_together():
    stream = stream_at([0, 1, 1, 1, 2])
    sweep = TemporalLoader(np.array([0, 1, 3, 4]), stream.t, 2)
    batches = [batch.events_B.tolist() for batch in sweep.batches(EventTables(stream))]
    assert batches == [[0], [1, 3], [4]]


@pytest.mark.parametrize("events", [range(0), range(2, 2), np.empty(0, dtype=np.int64)])
def test_nothing_to_sweep(events):
    stream = stream_at([0, 1, 2])
    sweep = TemporalLoader(events, stream.t, 5)
    assert (len(sweep), sweep.num_events) == (0, 0)
    assert list(sweep.batches(EventTables(stream))) == []


def test_batch_of_given_events():
    stream = stream_at([3, 4, 4, 9])
    batch = batch_of(EventTables(stream), torch.tensor([1, 3]))
    assert batch.events_B.tolist() == batch.src_B.tolist() == [1, 3]
    assert batch.dst_B.tolist() == [1001, 1003]
    assert batch.t_B.tolist() == [4, 9]
