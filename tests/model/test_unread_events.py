"""Where reads lag, PRES predicts memory for the events that a read could not see."""

from __future__ import annotations

import pytest
import torch

from pres_dist.memory.state import NEVER, TransitionRows
from pres_dist.model.tgn import UpdatedMemory, predict_unread
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.correction import PresCorrection


def updated(last_update: list[int]) -> UpdatedMemory:
    memory = torch.arange(2.0 * len(last_update)).view(-1, 2)
    known = torch.ones(len(last_update), dtype=torch.bool)
    return UpdatedMemory(memory, memory, torch.tensor(last_update), memory, memory, known, None)


def test_a_node_with_unread_events_drifts_until_its_newest_one() -> None:
    rates = TransitionRows(torch.tensor([3, 3, 3, 0, 3]), torch.full((5, 2), 0.5), None)
    rates.rate_UD[3] = 0
    newest = torch.tensor([130, 100, NEVER, 130, 130])
    before = updated([100, 100, NEVER, 100, NEVER])
    correction = PresCorrection(TransitionClock("time", 10.0), 0.9)
    after = predict_unread(correction, before, rates, newest)
    drift = after.read_UD - before.memory_UD
    assert drift[0].tolist() == pytest.approx([1.5, 1.5])  # three units of time at 0.5 each
    assert not drift[1:].any()  # all read; no event; no transition known; never updated
    assert torch.equal(after.memory_UD, before.memory_UD)
    assert torch.equal(after.last_update_U, before.last_update_U)
