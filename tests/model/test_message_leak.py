"""DyRep's mail holds the partner's embedding at the event, from earlier events alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pres_dist.config.model import ModelConfig
from pres_dist.memory.state import NO_EVENT
from pres_dist.step.batches import TemporalBatch, batch_of
from tests.model.small_world import IN_MAIL, World, build_world, random_stream
from tests.model.test_no_leak import with_features, with_partners
from tests.support.by_rates import by_rates

CONFIGS = {
    "dyrep": ModelConfig(**IN_MAIL, kind="dyrep"),
    "shared": ModelConfig(**IN_MAIL, message_endpoint="embedding"),
}
Mail = dict[tuple[int, int], torch.Tensor]
"""Content of the message of an event, by node and event."""


@pytest.fixture(params=CONFIGS)
def world(request: pytest.FixtureRequest) -> World:
    slots_for_all = 20
    world = build_world(
        random_stream(seed=1), CONFIGS[request.param], by_rates(initial_gate=0.5), slots_for_all
    )
    for batch in world.batches()[:3]:
        world.single.commit(world.single.forward(batch, world.negatives(batch)), learn=True)
    return world


def mail_of(world: World, batch: TemporalBatch, negatives_BM: torch.Tensor | None = None) -> Mail:
    """The mail that a batch leaves; the world stays as it was."""
    other = world.over(world.stream)
    if negatives_BM is None:
        negatives_BM = world.negatives(batch)
    other.single.commit(other.single.forward(batch, negatives_BM), learn=False)
    rows = other.store.state_dict()["rows"]
    return {
        (node, event): rows["mail_memory_URD"][node, slot]
        for node in set(torch.cat([batch.src_B, batch.dst_B]).tolist())
        for slot, event in enumerate(rows["mail_event_UR"][node].tolist())
        if event != NO_EVENT
    }


def own_mail(mail: Mail, event: int) -> Mail:
    return {key: value for key, value in mail.items() if key[1] == event}


def later(world: World, batch: TemporalBatch) -> Iterator[tuple[int, np.ndarray]]:
    """Each event, and those of its batch and after it at its time or later."""
    for event, t in zip(batch.events_B.tolist(), batch.t_B.tolist(), strict=True):
        yield event, np.arange(int(np.searchsorted(world.stream.t, t)), world.stream.num_events)


def test_features_at_or_after_an_event_leave_its_mail_alone(world: World) -> None:
    batch = world.batches()[3]
    before = mail_of(world, batch)
    for event, changed in later(world, batch):
        after = mail_of(world.over(with_features(world.stream, changed)), batch)
        assert own_mail(before, event)
        for key, held in own_mail(before, event).items():
            assert torch.equal(held, after[key]), key


def test_partners_at_or_after_an_event_leave_its_mail_alone(world: World) -> None:
    batch = world.batches()[3]
    before = mail_of(world, batch)
    for event, changed in later(world, batch):
        other = world.over(with_partners(world.stream, changed[changed != event]))
        after = mail_of(other, batch_of(other.step.tables, batch.events_B))
        for key, held in own_mail(before, event).items():
            torch.testing.assert_close(held, after[key], rtol=2e-6, atol=2e-6)


def test_earlier_events_of_the_batch_are_in_the_mail(world: World) -> None:
    """The counterpart: features strictly before an event do count, even in its batch."""
    batch = world.batches()[3]
    before = mail_of(world, batch)
    first = int(batch.events_B[0])
    after = mail_of(world.over(with_features(world.stream, np.array([first]))), batch)
    changed = {
        event for (node, event), held in before.items() if (held != after[node, event]).any()
    }
    assert changed
    assert min(world.stream.t[list(changed)]) > world.stream.t[first]


def test_negatives_leave_mail_alone(world: World) -> None:
    batch = world.batches()[3]
    others = (world.negatives(batch) + 5) % world.stream.num_nodes
    before, after = mail_of(world, batch), mail_of(world, batch, others)
    for key, held in before.items():
        torch.testing.assert_close(held, after[key], rtol=2e-6, atol=2e-6)


def test_a_node_has_another_embedding_at_each_event(world: World) -> None:
    """So that mail must hold that of the right event."""
    batch = world.batches()[3]
    held: dict[int, list[torch.Tensor]] = {}
    for (node, event), value in mail_of(world, batch).items():
        ends = int(world.stream.src[event]), int(world.stream.dst[event])
        held.setdefault(ends[1] if node == ends[0] else ends[0], []).append(value)
    assert any(not torch.equal(values[0], value) for values in held.values() for value in values)
