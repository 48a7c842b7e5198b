"""Receivers of the mail of an event, against a search through the stream event by event."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pres_dist.config.sampling import SamplingConfig
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.neighbors import NeighborSampler
from pres_dist.step.batches import batch_of, joined
from pres_dist.step.mail import plan_deliveries

NUM_NODES, NUM_EVENTS, NUM_NEIGHBORS = 15, 80, 2


@pytest.fixture
def stream() -> EventStream:
    """With self-loops, repeated pairs, nodes without a past and equal timestamps."""
    random = np.random.default_rng(4)
    src, dst = (random.integers(0, NUM_NODES, (2, NUM_EVENTS)) ** 2) // NUM_NODES
    t = np.cumsum(random.integers(0, 3, NUM_EVENTS))
    return EventStream.from_arrays(src, dst, t, num_nodes=NUM_NODES)


def sampler_of(stream: EventStream) -> tuple[EventTables, NeighborSampler]:
    tables = EventTables(stream)
    # Uniform neighbors are for embeddings: mail goes to the most recent ones all the same.
    config = SamplingConfig(num_neighbors=NUM_NEIGHBORS, strategy="uniform")
    return tables, NeighborSampler(TemporalAdjacency(stream, tables), config, seed=0)


def receivers(stream: EventStream, event: int, num_hops: int) -> set[int]:
    reached = {int(stream.src[event]), int(stream.dst[event])}
    for _ in range(num_hops):
        met = set()
        for node in reached:
            ends = [
                {int(stream.src[e]), int(stream.dst[e])}
                for e in range(stream.num_events)
                if stream.t[e] < stream.t[event] and node in (stream.src[e], stream.dst[e])
            ]
            met |= set().union(*ends[-NUM_NEIGHBORS:])
        reached = reached | met
    return reached


@pytest.mark.parametrize("num_hops", [0, 1, 2])
@pytest.mark.parametrize("num_slots", [1, 4])
def test_mail_goes_to_those_met_strictly_before(
    stream: EventStream, num_hops: int, num_slots: int
) -> None:
    """Once for each event, and the newest only; whatever the order of events is."""
    tables, sampler = sampler_of(stream)
    late, early = (batch_of(tables, torch.arange(*ends)) for ends in ((45, 60), (30, 45)))
    mail = plan_deliveries(joined([late, early]), sampler, num_hops, num_slots)
    expected: dict[int, list[int]] = {}
    for event in range(30, 60):
        for node in receivers(stream, event, num_hops):
            expected.setdefault(node, []).append(event)
    sent: dict[int, list[int]] = {}
    for node, event in zip(mail.nodes_X.tolist(), mail.events_X.tolist(), strict=True):
        sent.setdefault(node, []).append(event)
    assert {node: sorted(events) for node, events in sent.items()} == {
        node: events[-num_slots:] for node, events in expected.items()
    }
    places = torch.cat([late.events_B, early.events_B])
    assert torch.equal(places[mail.place_X], mail.events_X)
    assert np.unique(stream.t[30:60]).size < 30  # some at one time


def test_nothing_is_sent_of_no_events(stream: EventStream) -> None:
    tables, sampler = sampler_of(stream)
    mail = plan_deliveries(batch_of(tables, torch.arange(0)), sampler, 1, 3)
    assert mail.nodes_X.numel() == mail.events_X.numel() == mail.place_X.numel() == 0


def test_events_after_a_batch_change_no_receiver(stream: EventStream) -> None:
    events = torch.arange(30, 60)
    sent = []
    for each in (stream, stream.head(60)):
        tables, sampler = sampler_of(each)
        sent.append(plan_deliveries(batch_of(tables, events), sampler, 2, 5))
    assert torch.equal(sent[0].nodes_X, sent[1].nodes_X)
    assert torch.equal(sent[0].events_X, sent[1].events_X)
