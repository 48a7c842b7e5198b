"""Scores depend on nothing that happens at or after the time of a query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pres_dist.config.model import ModelConfig
from pres_dist.events.stream import EventStream
from pres_dist.step.batches import TemporalBatch, batch_of
from pres_dist.step.forward import Forward
from tests.model.small_world import IN_MAIL, SMALL, World, build_world, random_stream
from tests.support.by_rates import by_rates

CONFIGS = {
    "attention": ModelConfig(**SMALL),
    "two-layers": ModelConfig(**SMALL, num_layers=2, aggregator="sequential"),
    "sum": ModelConfig(**SMALL, embedding="sum", aggregator="mean"),
    "time": ModelConfig(**SMALL, embedding="time"),
    "dyrep": ModelConfig(**IN_MAIL, kind="dyrep"),
    "tgat": ModelConfig(**SMALL, kind="tgat"),
    "apan": ModelConfig(**SMALL, updater="attention", mail_hops=1, embedding="identity"),
}
GRAPH = ("attention", "two-layers", "sum", "tgat")


def build(kind: str) -> World:
    pres = by_rates(initial_gate=0.5, prediction=CONFIGS[kind].has_memory)
    world = build_world(random_stream(seed=1), CONFIGS[kind], pres, 3)
    for batch in world.batches()[:3]:
        world.single.commit(world.single.forward(batch, world.negatives(batch)), learn=True)
    return world


def scores(
    world: World, batch: TemporalBatch, negatives_BM: torch.Tensor, first: int | None = None
) -> torch.Tensor:
    """[B, 1 + M] logits of a batch, or of a part of the one that starts with event `first`."""
    forward: Forward = world.single.forward(batch, negatives_BM, first)
    return torch.cat([forward.positive_B[:, None], forward.negative_BM], dim=1).detach()


def with_features(stream: EventStream, events: np.ndarray) -> EventStream:
    assert stream.edge_features is not None
    features = stream.edge_features.copy()
    features[events] += 100.0
    return replace(stream, edge_features=features)


def with_partners(stream: EventStream, events: np.ndarray) -> EventStream:
    """Rotate the endpoints of some events among the nodes."""
    src, dst = stream.src.copy(), stream.dst.copy()
    src[events] = (src[events] + 5) % stream.num_nodes
    dst[events] = (dst[events] + 7) % stream.num_nodes
    return replace(stream, src=src, dst=dst)


@pytest.mark.parametrize("kind", CONFIGS)
def test_events_after_the_batch(kind):
    world = build(kind)
    batch = world.batches()[3]
    negatives_BM = world.negatives(batch)
    before = scores(world, batch, negatives_BM)
    future = np.arange(int(batch.events_B[-1]) + 1, world.stream.num_events)
    stream = with_features(with_partners(world.stream, future), future)
    late = stream.t.copy()
    late[future] += 1_000
    assert torch.equal(before, scores(world.over(stream), batch, negatives_BM))
    assert torch.equal(before, scores(world.over(replace(stream, t=late)), batch, negatives_BM))
    past = world.stream.head(len(stream.src) - len(future))
    assert torch.equal(before, scores(world.over(past), batch, negatives_BM))


@pytest.mark.parametrize("kind", CONFIGS)
def test_features_of_the_batch_at_or_after_the_query(kind):
    world = build(kind)
    batch = world.batches()[3]
    negatives_BM = world.negatives(batch)
    before = scores(world, batch, negatives_BM)
    last = int(batch.events_B[-1])
    ties = 0
    for row, (event, t) in enumerate(zip(batch.events_B.tolist(), batch.t_B.tolist(), strict=True)):
        first = int(np.searchsorted(world.stream.t, t))
        ties += first < event
        changed = np.arange(first, last + 1)
        after = scores(world.over(with_features(world.stream, changed)), batch, negatives_BM)
        assert torch.equal(before[row], after[row])
    assert ties, "the batch must have equal timestamps"


@pytest.mark.parametrize("kind", CONFIGS)
def test_partners_of_the_batch_at_or_after_the_query(kind):
    world = build(kind)
    batch = world.batches()[3]
    negatives_BM = world.negatives(batch)
    before = scores(world, batch, negatives_BM)
    last = int(batch.events_B[-1])
    for row, (event, t) in enumerate(zip(batch.events_B.tolist(), batch.t_B.tolist(), strict=True)):
        changed = np.arange(int(np.searchsorted(world.stream.t, t)), last + 1)
        other = world.over(with_partners(world.stream, changed[changed != event]))
        again = batch_of(other.step.tables, batch.events_B)
        after = scores(other, again, negatives_BM)
        # Other nodes in the batch: matrix products of another shape may round differently.
        torch.testing.assert_close(before[row], after[row], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", GRAPH)
def test_earlier_events_of_the_batch_are_neighbors(kind):
    """The counterpart: features strictly before the query do count, even in its batch."""
    world = build(kind)
    batch = world.batches()[3]
    negatives_BM = world.negatives(batch)
    before = scores(world, batch, negatives_BM)
    first = int(batch.events_B[0])
    start = np.array([first])
    after = scores(world.over(with_features(world.stream, start)), batch, negatives_BM)
    changed = (before != after).any(1)
    at_or_before_start = batch.t_B <= world.stream.t[first]
    assert changed.any()
    assert not changed[at_or_before_start].any()


@pytest.mark.parametrize("kind", CONFIGS)
def test_memory_of_the_batch_is_not_read_by_the_batch(kind):
    """All reads see the state from before the batch, however it is cut off."""
    world = build(kind)
    batch = world.batches()[3]
    negatives_BM = world.negatives(batch)
    whole = scores(world, batch, negatives_BM)
    for start in range(0, batch.events_B.numel(), 4):
        part = slice(start, start + 4)
        piece = batch_of(world.step.tables, batch.events_B[part])
        torch.testing.assert_close(
            scores(world, piece, negatives_BM[part], int(batch.events_B[0])),
            whole[part],
            rtol=2e-6,
            atol=2e-6,
        )
