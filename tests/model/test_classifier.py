"""Classes depend on nothing that happens at or after the time of an event, itself included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pres_dist.config.model import ModelConfig
from pres_dist.model.decoder import Classifier, EdgeClassifier, NodeClassifier
from pres_dist.step.batches import TemporalBatch
from tests.model.small_world import SMALL, World, build_world, random_stream
from tests.support.by_rates import by_rates

CLASSES = 4
KINDS = [NodeClassifier, EdgeClassifier]


def build(kind: type[Classifier], feature_dim: int = 0) -> World:
    world = build_world(random_stream(seed=1), ModelConfig(**SMALL), by_rates(), 3)
    for batch in world.batches()[:3]:
        world.single.commit(world.single.forward(batch, world.negatives(batch)), learn=True)
    world.model.classifier = kind(SMALL["embedding_dim"], CLASSES, 0.0, feature_dim).eval()
    return world


def logits(world: World, batch: TemporalBatch, num_negatives: int = 2) -> torch.Tensor:
    forward = world.single.forward(batch, world.negatives(batch, num_negatives))
    assert forward.class_BC is not None
    assert forward.class_BC.shape == (batch.num_events, CLASSES)
    return forward.class_BC.detach()


def changed_from(world: World, first: int) -> World:
    """Other features for all events from one on."""
    assert world.stream.edge_features is not None
    features = world.stream.edge_features.copy()
    features[first:] += 100
    return world.over(replace(world.stream, edge_features=features))


@pytest.mark.parametrize("kind", KINDS)
def test_features_at_or_after_an_event(kind: type[Classifier]) -> None:
    world = build(kind)
    batch = world.batches()[3]
    before = logits(world, batch)
    for row, t in enumerate(batch.t_B.tolist()):
        first = int(np.searchsorted(world.stream.t, t))
        assert torch.equal(before[row], logits(changed_from(world, first), batch)[row])


@pytest.mark.parametrize("kind", KINDS)
def test_own_features_are_read_where_they_are_asked_for(kind: type[Classifier]) -> None:
    """The counterpart: the same change is seen by every event."""
    world = build(kind, feature_dim=3)
    batch = world.batches()[3]
    before = logits(world, batch)
    for row, t in enumerate(batch.t_B.tolist()):
        first = int(np.searchsorted(world.stream.t, t))
        assert not torch.equal(before[row], logits(changed_from(world, first), batch)[row])


@pytest.mark.parametrize("kind", KINDS)
def test_without_negatives_classes_stay_and_links_are_not_scored(kind: type[Classifier]) -> None:
    world = build(kind)
    batch = world.batches()[3]
    torch.testing.assert_close(logits(world, batch, 0), logits(world, batch), rtol=2e-6, atol=2e-6)
    forward = world.single.forward(batch, world.negatives(batch, 0))
    assert forward.positive_B.numel() == forward.negative_BM.numel() == 0


def test_the_class_of_a_node_is_that_of_the_source_alone() -> None:
    torch.manual_seed(0)
    sources, destinations = torch.randn(2, 6, 8)
    node, edge = NodeClassifier(8, CLASSES, 0.0), EdgeClassifier(8, CLASSES, 0.0)
    assert torch.equal(node(sources, destinations, None), node(sources, -destinations, None))
    assert not torch.equal(edge(sources, destinations, None), edge(sources, -destinations, None))
