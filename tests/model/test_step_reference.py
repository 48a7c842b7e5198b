"""Whole temporal batches against a slow TGN with PRES in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pres_dist.config.model import ModelConfig
from pres_dist.config.pres import PresConfig
from pres_dist.memory.state import NO_EVENT
from pres_dist.step.forward import Forward
from pres_dist.training.loss import batch_loss
from pres_dist.training.optimizer import trainable
from tests.model.small_world import (
    IN_MAIL,
    SMALL,
    World,
    build_world,
    last_update_of,
    random_stream,
)
from tests.support.by_rates import by_rates
from tests.support.nightly import nightly_except
from tests.support.states import assert_same, tensors_of

OFF = by_rates(prediction=False)
PAPER = by_rates(clock="time", components=2, initial_gate=0.6)
APAN = {"updater": "attention", "embedding": "identity"}

CASES = {
    "plain": (ModelConfig(**SMALL), OFF, 1, {}),
    "plain-two-layers-last-of-three": (
        ModelConfig(**SMALL, num_layers=2, aggregator="last"),
        OFF,
        3,
        {},
    ),
    "default": (ModelConfig(**SMALL), PresConfig(), 2, {}),
    "pres-rates": (ModelConfig(**SMALL), by_rates(initial_gate=0.6), 1, {}),
    "pres-paper": (ModelConfig(**SMALL), PAPER, 1, {"node_dim": 2}),
    "pres-sequential-event-clock": (
        ModelConfig(**SMALL, aggregator="sequential", embedding="time"),
        by_rates(clock="event", components=1, initial_gate=0.3),
        3,
        {"edge_dim": 0},
    ),
    "pres-sequential-two-layers": (
        ModelConfig(**SMALL, aggregator="sequential", num_layers=2, time_encoding="learnable"),
        by_rates(initial_gate=0.5),
        3,
        {"node_dim": 2},
    ),
    "pres-mean-sum-rnn-mlp": (
        ModelConfig(**SMALL, aggregator="mean", embedding="sum", updater="rnn", message="mlp"),
        by_rates(components=1, initial_gate=0.7),
        3,
        {},
    ),
    "sequential-two-layers-mlp": (
        ModelConfig(**SMALL, aggregator="sequential", num_layers=2, message="mlp"),
        OFF,
        2,
        {"node_dim": 2},
    ),
    "pres-level": (
        ModelConfig(**SMALL, num_layers=2),
        by_rates(predictor="level", shrinkage=1.5),
        1,
        {"node_dim": 2},
    ),
    "pres-level-lost": (
        ModelConfig(**SMALL, aggregator="sequential"),
        by_rates(predictor="level", corrects="lost", clock="event"),
        2,
        {},
    ),
    "pres-drift": (
        ModelConfig(**SMALL, embedding="time"),
        by_rates(clock="event"),
        1,
        {},
    ),
    "pres-for-what-is-lost": (
        ModelConfig(**SMALL, aggregator="sequential"),
        by_rates(corrects="lost", clock="event", shrinkage=0.5),
        2,
        {},
    ),
    "pres-one-component": (
        ModelConfig(**SMALL, embedding="sum", num_layers=2),
        by_rates(initial_gate=0.5, components=1, clock="event"),
        2,
        {},
    ),
    "jodie": (ModelConfig(**SMALL, kind="jodie"), by_rates(initial_gate=0.6), 1, {}),
    "dyrep": (ModelConfig(**IN_MAIL, kind="dyrep"), OFF, 1, {"node_dim": 2}),
    "dyrep-two-layers-sequential": (
        ModelConfig(**IN_MAIL, kind="dyrep", num_layers=2, aggregator="sequential"),
        by_rates(initial_gate=0.6),
        3,
        {},
    ),
    "embeddings-of-scores-in-messages": (
        ModelConfig(**IN_MAIL, message_endpoint="embedding", aggregator="mean"),
        by_rates(initial_gate=0.6),
        2,
        {},
    ),
    "apan": (ModelConfig(**SMALL, **APAN, mail_hops=1), by_rates(initial_gate=0.6), 4, {}),
    "apan-two-hops-event-clock": (
        ModelConfig(**SMALL, **APAN, mail_hops=2, time_encoding="learnable"),
        by_rates(clock="event", components=1, initial_gate=0.3),
        2,
        {"edge_dim": 0, "node_dim": 2},
    ),
    "apan-own-events": (
        ModelConfig(**{**SMALL, **APAN, "embedding": "time"}),
        by_rates(initial_gate=0.5),
        3,
        {},
    ),
}


DAILY = [
    "plain-two-layers-last-of-three",
    "default",
    "pres-rates",
    "pres-paper",
    "pres-sequential-two-layers",
    "pres-mean-sum-rnn-mlp",
    "pres-one-component",
    "jodie",
    "dyrep-two-layers-sequential",
    "apan",
    "apan-two-hops-event-clock",
]
"""One case or two of each kind of model, update and correction; the others run nightly."""


@pytest.fixture(params=nightly_except(DAILY, CASES))
def world(request: pytest.FixtureRequest) -> World:
    model, pres, num_slots, stream = CASES[request.param]
    return build_world(random_stream(**stream), model, pres, num_slots)


def close(actual: torch.Tensor, expected: Any, tolerance: float = 1e-4) -> None:
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float64))
    torch.testing.assert_close(actual.detach().double(), expected, rtol=tolerance, atol=tolerance)


def run_batch(world: World, batch: Any, learn: bool = True) -> Forward:
    forward = world.single.forward(batch, world.negatives(batch))
    world.single.commit(forward, learn)
    return forward


def bits(state: Any) -> dict[str, torch.Tensor]:
    """Return copies of all tensors of a store, by name."""
    return {path.partition("/")[2]: each.clone() for path, each in tensors_of(state.state_dict())}


def assert_state(world: World) -> None:
    rows = world.store.state_dict()["rows"]
    slow = world.slow
    close(rows["memory_UD"], [node.memory for node in slow.nodes])
    assert rows["last_update_U"].tolist() == last_update_of(slow)
    assert rows["mail_count_U"].tolist() == [node.count for node in slow.nodes]
    for number, node in enumerate(slow.nodes):
        order = torch.arange(world.store.num_slots)
        if world.store.rolling:  # slots in any order
            order = rows["mail_event_UR"][number].argsort()
            order = order.roll(len(node.mail))
        empty = world.store.num_slots - len(node.mail)
        events = [event for event, _ in node.mail] + [NO_EVENT] * empty
        assert rows["mail_event_UR"][number][order].tolist() == events
        others = [other for _, other in node.mail] + [np.zeros(world.store.dim)] * empty
        close(rows["mail_memory_URD"][number][order], others)


def assert_statistics(world: World) -> None:
    statistics = world.store.statistics
    if statistics is None:
        return
    for number, node in enumerate(world.slow.nodes):
        for component in range(statistics.num_components):
            rates = np.array(node.rates[component]).reshape(-1, world.store.dim)
            assert int(statistics.count_NC[number, component]) == len(rates)
            close(statistics.sum_NCD[number, component], rates.sum(0), 1e-3)


def test_agrees_with_the_slow_step(world):
    for batch in world.batches():
        negatives_BM = world.negatives(batch)
        events, negatives = batch.events_B.tolist(), negatives_BM.tolist()
        forward = world.single.forward(batch, negatives_BM)
        scores = world.slow.forward(events, negatives)
        close(forward.positive_B, scores.positive)
        close(forward.negative_BM, scores.negative)
        loss = batch_loss(forward, 0.5, forward.positive_B.numel())
        close(loss.link, scores.link_loss)
        close(loss.incoherence, scores.incoherence)
        close(loss.total, scores.link_loss + 0.5 * scores.incoherence)
        world.single.commit(forward, learn=True)
        world.slow.commit(events, negatives, learn=True)
        assert_state(world)
        assert_statistics(world)
    counts = [len(rates) for node in world.slow.nodes for rates in node.rates]
    assert (world.store.statistics is None) == (sum(counts) == 0)


def test_evaluation_batches_agree_with_the_slow_step(world):
    first, second, *rest = world.batches()
    for batch, learn in [(first, True), (second, True), *((batch, False) for batch in rest)]:
        negatives_BM = world.negatives(batch)
        events, negatives = batch.events_B.tolist(), negatives_BM.tolist()
        forward = run_batch(world, batch, learn)
        scores = world.slow.forward(events, negatives)
        world.slow.commit(events, negatives, learn)
        close(forward.positive_B, scores.positive)
    assert_state(world)
    assert_statistics(world)


def test_only_endpoints_are_written(world):
    for batch in world.batches():
        before = bits(world.store)
        forward = run_batch(world, batch, learn=False)
        after = bits(world.store)
        untouched = torch.ones(world.stream.num_nodes, dtype=torch.bool)
        untouched[batch.src_B] = untouched[batch.dst_B] = False
        names = {"memory_UD", "last_update_U"}
        if not world.store.rolling:  # mail for others
            names |= world.store.state_dict()["rows"].keys()
        for name in names:
            assert torch.equal(before[name][untouched], after[name][untouched]), name
        assert not torch.equal(before["mail_event_UR"], after["mail_event_UR"])
        assert len(forward.gathered.nodes_U) >= int((~untouched).sum())


def test_forward_writes_nothing(world):
    batches = world.batches()
    run_batch(world, batches[0])
    before = bits(world.store)
    for batch in batches[1:]:
        world.single.forward(batch, world.negatives(batch))
        world.single.replay(batch)
    assert_same(before, bits(world.store))


def test_without_learning_statistics_stay_as_they_are(world):
    batches = world.batches()
    for batch in batches[:3]:
        run_batch(world, batch, learn=True)
    before = world.store.state_dict()["statistics"]
    before = {name: table.clone() for name, table in before.items()}
    if before:
        assert int(before["count"].sum()) > 0
    for batch in batches[3:]:
        run_batch(world, batch, learn=False)
        world.single.commit(world.single.replay(batch), learn=False)
    assert_same(before, dict(world.store.state_dict()["statistics"]))


def test_replay_writes_what_forward_and_commit_write(world):
    batches = world.batches()
    for batch in batches[:3]:
        run_batch(world, batch, learn=True)
    other = world.over(world.stream)
    for batch in batches[3:]:
        run_batch(world, batch, learn=False)
        other.single.commit(other.single.replay(batch), learn=False)
        left, right = bits(world.store), bits(other.store)
        # A matrix product over fewer nodes may round the last bit in another way.
        for name in ("memory_UD", "mail_memory_URD"):
            close(left.pop(name), right.pop(name), 2e-6)
        assert_same(left, right)


def test_previous_memory_has_no_gradient(world):
    for batch in world.batches():
        forward = run_batch(world, batch)
        assert not forward.updated.previous_UD.requires_grad
    assert forward.updated.memory_UD.requires_grad


def test_gradient_agrees_with_differences_of_the_slow_loss(world):
    """Of the gate and of weights in every part of the model."""
    *before, batch = world.batches()[:6]
    for earlier in before:
        run_batch(world, earlier)
        events, drawn = earlier.events_B.tolist(), world.negatives(earlier).tolist()
        world.slow.forward(events, drawn)
        world.slow.commit(events, drawn, learn=True)
    negatives_BM = world.negatives(batch)
    batch_loss(
        world.single.forward(batch, negatives_BM), 0.5, batch.events_B.numel()
    ).total.backward()
    random = np.random.default_rng(0)
    for name, parameter in world.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is None:
            continue
        largest = int(parameter.grad.abs().flatten().argmax())
        for entry in {largest, int(random.integers(parameter.numel()))}:
            expected = slow_derivative(world, name, entry, batch, negatives_BM.tolist())
            actual = float(parameter.grad.flatten()[entry])
            assert actual == pytest.approx(expected, rel=2e-3, abs=2e-5), (name, entry)
    if world.model.correction is not None:
        for name, parameter in world.model.correction.named_parameters():
            assert parameter.grad is not None
            assert float(parameter.grad.abs().max()) > 1e-6, name


def slow_derivative(
    world: World, name: str, entry: int, batch: Any, negatives: Any, coherence_weight: float = 0.5
) -> float:
    weights = world.slow.model.weights
    original, losses = weights[name], []
    for step in (1e-7, -1e-7):
        moved = original.copy()
        moved.reshape(-1)[entry] += step
        weights[name] = moved
        scores = world.slow.forward(batch.events_B.tolist(), negatives)
        losses.append(scores.link_loss + coherence_weight * scores.incoherence)
    weights[name] = original
    return (losses[0] - losses[1]) / 2e-7


def test_autocast_is_close_to_float32(world):
    other, errors = world.over(world.stream), []
    for batch in world.batches():
        negatives_BM = world.negatives(batch)
        expected = world.single.forward(batch, negatives_BM)
        with torch.autocast("cpu", torch.bfloat16):
            actual = other.single.forward(batch, negatives_BM)
        assert actual.positive_B.dtype == actual.updated.memory_UD.dtype == torch.float32
        torch.testing.assert_close(actual.positive_B, expected.positive_B, rtol=0.05, atol=0.05)
        torch.testing.assert_close(actual.negative_BM, expected.negative_BM, rtol=0.05, atol=0.05)
        wanted, got = (gradient_of(world, forward) for forward in (expected, actual))
        errors.append(float((got - wanted).norm() / wanted.norm()))
        for each, forward in ((world, expected), (other, actual)):
            each.single.commit(forward, learn=True)
    # Rounding now and then turns a ReLU on or off, which shows in so small a batch.
    assert sorted(errors)[-2] < 0.5
    assert np.median(errors) < 0.1


def gradient_of(world: World, forward: Forward) -> torch.Tensor:
    """All gradients of the loss in one vector; zeros where a parameter was not used."""
    parameters = trainable(world.model)
    loss = batch_loss(forward, 0.1, forward.positive_B.numel()).total
    grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([grad.flatten() for grad in grads])


def test_shifting_all_times_changes_no_bit(world):
    """Times at the scale of epoch milliseconds lose nothing: only differences become float."""
    shift = 1_700_000_000_000
    other = world.over(replace(world.stream, t=world.stream.t + shift))
    for left, right in zip(world.batches(), other.batches(), strict=True):
        first, second = run_batch(world, left), run_batch(other, right)
        assert torch.equal(first.positive_B, second.positive_B)
        assert torch.equal(first.negative_BM, second.negative_BM)
    before, after = bits(world.store), bits(other.store)
    written = before["last_update_U"] >= 0
    assert written.any()
    before["last_update_U"] = before["last_update_U"] + shift * written
    assert_same(before, after)
