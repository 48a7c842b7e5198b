"""TGAT, a model without memory, against the slow model in float64."""

from __future__ import annotations

import pytest
import torch

from pres_dist.config.model import ModelConfig
from pres_dist.memory.null import NullStore
from pres_dist.training.loss import batch_loss
from tests.model.small_world import SMALL, World, build_world, random_stream
from tests.model.test_step_reference import OFF, close, slow_derivative

STREAMS = {
    "edges and nodes": {"node_dim": 4},
    "times alone": {"edge_dim": 0},
}


@pytest.fixture(params=STREAMS)
def world(request: pytest.FixtureRequest) -> World:
    stream = random_stream(**STREAMS[request.param])
    return build_world(stream, ModelConfig(**SMALL, kind="tgat"), OFF)


def test_scores_and_loss_agree_with_the_slow_model(world: World) -> None:
    for batch in world.batches():
        negatives_BM = world.negatives(batch)
        forward = world.single.forward(batch, negatives_BM)
        scores = world.slow.forward(batch.events_B.tolist(), negatives_BM.tolist())
        close(forward.positive_B, scores.positive)
        close(forward.negative_BM, scores.negative)
        loss = batch_loss(forward, 0.0, batch.num_events)
        close(loss.total, scores.link_loss)
        assert float(loss.incoherence) == 0
        world.single.commit(forward, learn=True)


def test_gradient_agrees_with_differences_of_the_slow_loss(world: World) -> None:
    batch = world.batches()[4]
    negatives_BM = world.negatives(batch)
    forward = world.single.forward(batch, negatives_BM)
    batch_loss(forward, 0.0, batch.num_events).total.backward()
    for name, parameter in world.model.named_parameters():
        assert parameter.grad is not None, name
        largest = int(parameter.grad.abs().flatten().argmax())
        expected = slow_derivative(world, name, largest, batch, negatives_BM.tolist(), 0.0)
        actual = float(parameter.grad.flatten()[largest])
        assert actual == pytest.approx(expected, rel=2e-3, abs=2e-5), name


def test_nothing_is_kept(world: World) -> None:
    """Scores of a batch do not depend on what was committed before it."""
    *before, batch = world.batches()[:4]
    negatives_BM = world.negatives(batch)
    fresh = world.single.forward(batch, negatives_BM)
    for earlier in before:
        world.single.commit(world.single.forward(earlier, world.negatives(earlier)), learn=True)
    again = world.single.forward(batch, negatives_BM)
    assert torch.equal(fresh.positive_B, again.positive_B)
    assert torch.equal(fresh.negative_BM, again.negative_BM)
    assert world.store.state_dict() == {"rows": {}, "statistics": {}}
    assert world.store.version == len(before)


def test_several_parts_of_a_step_count_as_one_push(world: World) -> None:
    step, batch = world.step, world.batches()[3]
    parts = [batch.part(slice(0, 7)), batch.part(slice(7, None))]
    plan = step.plan(parts, [world.negatives(batch)[:7], world.negatives(batch)[7:]])
    pulled = step.read(plan)
    assert all(column.numel() == 0 or column.dim() == 1 for column in vars(pulled.state).values())
    forwards = [step.forward(plan, pulled, number) for number in range(2)]
    step.commit(plan, pulled, forwards, learn=True)
    ends = [forward.gathered.index_2B.numel() for forward in forwards]
    assert ends == [14, 2 * (batch.num_events - 7)]
    assert isinstance(world.store, NullStore)
    assert world.store.version == 1
