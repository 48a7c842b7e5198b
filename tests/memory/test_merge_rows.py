"""Several writes of one row made into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pres_dist.memory.merge import merge_rows
from pres_dist.memory.state import (
    NodeState,
)
from tests.support.store_rows import EPOCH_MS, FIELDS, Layout, assert_same_rows, ids, random_state


def state_of(layout: Layout, events: list[list[int]], counts: list[int], seed: int) -> NodeState:
    state = random_state(layout, len(events), seed, [EPOCH_MS] * len(events))
    return replace(state, mail_event_UR=torch.tensor(events), mail_count_U=torch.tensor(counts))


def joined(states: Sequence[NodeState]) -> NodeState:
    columns = {name: torch.cat([getattr(state, name) for state in states]) for name in FIELDS}
    return NodeState(**columns)


def test_the_newest_events_of_all_pushes_stay() -> None:
    layout = Layout(num_slots=3)
    first = state_of(layout, [[1, 5, 9], [4, -1, -1]], [7, 1], seed=1)
    second = state_of(layout, [[2, 6, -1], [3, -1, -1]], [2, 1], seed=2)
    third = state_of(layout, [[8, 10, -1]], [2], seed=3)
    rows_P, merged = merge_rows(ids(6, 2, 6, 2, 6), joined([first, second, third]))
    assert rows_P.tolist() == [2, 6]
    assert merged.mail_event_UR.tolist() == [[3, 4, -1], [8, 9, 10]]
    assert merged.mail_count_U.tolist() == [2, 11]
    assert torch.equal(merged.memory_UD, first.memory_UD.flip(0))
    assert torch.equal(merged.last_update_U, first.last_update_U.flip(0))
    kept = [
        [second.mail_memory_URD[1, 0], first.mail_memory_URD[1, 0]],
        [third.mail_memory_URD[0, 0], first.mail_memory_URD[0, 2], third.mail_memory_URD[0, 1]],
    ]
    for place, messages in enumerate(kept):
        for slot, message in enumerate(messages):
            assert torch.equal(merged.mail_memory_URD[place, slot], message)


def test_the_order_of_arrival_decides_only_which_of_equal_memories_is_taken() -> None:
    layout = Layout(num_slots=3)
    random = torch.Generator().manual_seed(5)
    events = torch.randperm(30, generator=random).view(10, 3).sort(1).values
    state = state_of(layout, events.tolist(), [3] * 10, seed=4)
    state = replace(state, memory_UD=torch.zeros(10, 3))
    rows = torch.randint(4, (10,), generator=random)
    _, merged = merge_rows(rows, state)
    for _ in range(5):
        order = torch.randperm(10, generator=random)
        again = NodeState(**{name: getattr(state, name)[order] for name in FIELDS})
        assert_same_rows(merge_rows(rows[order], again)[1], merged)


def test_a_row_of_one_push_stays_as_it_is() -> None:
    layout = Layout(num_slots=3)
    state = state_of(layout, [[9, 2, 5], [-1, 3, -1], [7, -1, -1], [6, -1, -1]], [1] * 4, seed=6)
    rows_P, merged = merge_rows(ids(3, 0, 1, 1), state)
    assert rows_P.tolist() == [0, 1, 3]
    assert merged.mail_event_UR.tolist() == [[-1, 3, -1], [6, 7, -1], [9, 2, 5]]
