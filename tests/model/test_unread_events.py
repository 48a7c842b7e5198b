"""PRES predicts memory for the events that a lagging read could not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pres_dist.config.model import ModelConfig
from pres_dist.memory.state import NEVER
from pres_dist.model.tgn import Unread, UpdatedMemory, predict_unread
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.correction import PresCorrection
from pres_dist.pres.statistics import TransitionRows
from pres_dist.step.pipeline import unread_events
from tests.model.small_world import SMALL, build_world, random_stream
from tests.support.by_rates import by_rates


def updated(last_update: list[int]) -> UpdatedMemory:
    memory = torch.arange(2.0 * len(last_update)).view(-1, 2)
    known = torch.ones(len(last_update), dtype=torch.bool)
    return UpdatedMemory(memory, memory, torch.tensor(last_update), memory, memory, known, None)


def test_a_node_with_unread_events_drifts_until_its_newest_one() -> None:
    rates = TransitionRows(torch.tensor([3, 3, 3, 0, 3]), torch.full((5, 2), 0.5))
    rates.rate_UD[3] = 0
    before = updated([100, 100, NEVER, 100, NEVER])
    correction = PresCorrection(by_rates(), 2, TransitionClock("time", 10.0))
    unread = Unread(torch.tensor([30, 0, 0, 30, 0]), torch.tensor([2, 0, 0, 1, 0]))
    after = predict_unread(correction, before, rates, unread)
    drift = after.read_UD - before.memory_UD
    assert drift[0].tolist() == pytest.approx([1.5, 1.5])  # three units of time at 0.5 each
    assert not drift[1:].any()  # all read; no event; no transition known; never updated
    assert torch.equal(after.memory_UD, before.memory_UD)
    assert torch.equal(after.last_update_U, before.last_update_U)


def test_the_events_that_memory_does_not_know_are_counted_one_by_one() -> None:
    stream = random_stream(seed=4)
    world = build_world(stream, ModelConfig(**SMALL), by_rates(prediction=False))
    random = np.random.default_rng(0)
    nodes = random.integers(0, stream.num_nodes, 200)
    before = random.integers(0, stream.num_events, 200)
    last_update = random.choice(stream.t, 200)
    last_update[::7] = NEVER
    tensors = (torch.from_numpy(column) for column in (nodes, before, last_update))
    unread = unread_events(world.step.sampler.adjacency, world.step.tables, *tensors)
    for place, (node, bound, last) in enumerate(zip(nodes, before, last_update, strict=True)):
        mine = (stream.src[:bound] == node) | (stream.dst[:bound] == node)
        times = stream.t[:bound][mine]
        times = times[times > last] if last != NEVER else times[:0]
        assert int(unread.count[place]) == len(times)
        assert int(unread.elapsed[place]) == (times.max() - last if len(times) else 0)
