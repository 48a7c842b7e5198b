from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.memory.state import NO_EVENT
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.step.batches import batch_of
from pres_dist.step.mail import BatchMail, collect_mail, pending_events
from tests.support.nightly import drawn

ROWS = 1000  # what is noted as the other endpoint is a row of something larger


def ids(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def row_of(endpoint: int) -> int:
    return ROWS - 3 * endpoint


def collect(pairs, events, num_endpoints, num_slots) -> BatchMail:
    """Mail of a batch of (source, destination) pairs, numbered 0 to P - 1."""
    endpoints = [src for src, _ in pairs] + [dst for _, dst in pairs]
    rows = [row_of(endpoint) for endpoint in endpoints]
    return collect_mail(ids(*endpoints), ids(*rows), ids(*events), num_endpoints, num_slots)


@st.composite
def batches(draw):
    """Pairs over P endpoints, event ids with gaps, number of endpoints and of slots."""
    num_endpoints = draw(st.integers(1, 6))
    endpoint = st.integers(0, num_endpoints - 1)
    size = draw(st.sampled_from([1, 4, 12, 25]))
    pairs = draw(st.lists(st.tuples(endpoint, endpoint), min_size=size, max_size=size))
    first = draw(st.sampled_from([0, 1 << 40]))
    steps = st.lists(st.integers(1, 3), min_size=len(pairs), max_size=len(pairs))
    events, event = [], first
    for step in draw(steps):
        events.append(event)
        event += step
    return pairs, events, num_endpoints, draw(st.integers(1, 5))


def pending(pairs) -> list[int]:
    """Pending events of a batch of pairs that follows other events of the same pairs."""
    src, dst = zip(*pairs + pairs, strict=True)
    stream = EventStream.from_arrays(src, dst, range(len(src)))
    tables = EventTables(stream)
    batch = batch_of(tables, torch.arange(len(pairs), len(src)))
    return pending_events(batch, TemporalAdjacency(stream, tables)).tolist()


def past_of(endpoint, pairs, events):
    """(event id, other endpoint) of each event of an endpoint, in order; a self-loop once."""
    found = []
    for (src, dst), event in zip(pairs, events, strict=True):
        if src == endpoint:
            found.append((event, dst))
        elif dst == endpoint:
            found.append((event, src))
    return found


@settings(max_examples=drawn(300, 3))
@given(batches())
def test_against_a_loop(batch):
    pairs, events, num_endpoints, num_slots = batch
    mail = collect(*batch)
    assert mail.event_PR.shape == mail.other_PR.shape == (num_endpoints, num_slots)
    for endpoint in range(num_endpoints):
        found = past_of(endpoint, pairs, events)
        last = found[-num_slots:]
        empty = num_slots - len(last)
        assert mail.event_PR[endpoint].tolist() == [e for e, _ in last] + [NO_EVENT] * empty
        others = [row_of(other) for _, other in last]
        assert mail.other_PR[endpoint].tolist() == others + [0] * empty
        assert mail.count_P[endpoint] == len(found)
    expected = [
        len(past_of(pair[side], pairs[:place], events[:place]))
        for side in (0, 1)
        for place, pair in enumerate(pairs)
    ]
    assert pending(pairs) == expected


def test_by_hand():
    # Endpoint 0 has events 10, 11, 13, the last with itself; 1 has 10, 11; 2 has 12.
    mail = collect([(0, 1), (1, 0), (2, 2), (0, 0)], [10, 11, 12, 13], 3, 2)
    assert mail.event_PR.tolist() == [[11, 13], [10, 11], [12, NO_EVENT]]
    assert mail.other_PR.tolist() == [[997, 1000], [1000, 1000], [994, 0]]
    assert mail.count_P.tolist() == [3, 2, 1]
    assert pending([(0, 1), (1, 0), (2, 2), (0, 0)]) == [0, 1, 0, 2, 0, 1, 0, 2]


def test_the_last_event_is_kept_in_one_slot():
    mail = collect([(0, 1), (0, 2), (0, 1)], [5, 6, 9], 3, 1)
    assert mail.event_PR.tolist() == [[9], [9], [6]]
    assert mail.count_P.tolist() == [3, 2, 1]


def test_endpoints_without_an_event():
    mail = collect([(1, 1)], [0], 3, 2)
    assert mail.event_PR.tolist() == [[NO_EVENT] * 2, [0, NO_EVENT], [NO_EVENT] * 2]
    assert mail.count_P.tolist() == [0, 1, 0]


def test_types():
    mail = collect([(0, 1)], [1 << 60], 2, 2)
    assert {tensor.dtype for tensor in vars(mail).values()} == {torch.int64}
    assert mail.event_PR[0, 0] == 1 << 60
