"""Rows of a memory store: how large, drawn at random, compared.

Shapes: N nodes, U nodes of a request, D memory size, R mailbox slots, C components.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pres_dist.memory.state import NO_EVENT, MemoryStore, NodeState
from pres_dist.pres.clock import ClockKind, TransitionClock
from pres_dist.pres.statistics import TransitionRows, TransitionStatistics

EPOCH_MS = 1_700_000_000_000
TIME_UNIT = 60_000.0
FIELDS = ("memory_UD", "last_update_U", "mail_memory_URD", "mail_event_UR", "mail_count_U")


@dataclass(frozen=True)
class Layout:
    """The sizes of a store. No components: a store without statistics."""

    num_nodes: int = 7
    dim: int = 3
    num_slots: int = 1
    num_components: int = 2
    clock: ClockKind = "log"
    rolling: bool = False

    def statistics(self) -> TransitionStatistics | None:
        """Statistics of this layout, for stores that keep them beside their rows."""
        if not self.num_components:
            return None
        clock = TransitionClock(self.clock, TIME_UNIT)
        return TransitionStatistics(self.num_nodes, self.dim, self.num_components, clock)

    @property
    def everyone(self) -> Tensor:
        return torch.arange(self.num_nodes)


def random_state(layout: Layout, num: int, seed: int, last_update: list[int]) -> NodeState:
    """Rows that nobody could mistake for one another."""
    random = np.random.default_rng(seed)
    shape = (num, layout.num_slots)
    return NodeState(
        memory_UD=torch.from_numpy(random.standard_normal((num, layout.dim), np.float32)),
        last_update_U=torch.tensor(last_update, dtype=torch.int64),
        mail_memory_URD=torch.from_numpy(random.standard_normal((*shape, layout.dim), np.float32)),
        mail_event_UR=torch.from_numpy(random.integers(NO_EVENT, 1 << 40, shape)),
        mail_count_U=torch.from_numpy(random.integers(1, 100, num)),
    )


def without_mail(state: NodeState) -> NodeState:
    """The rows as a store takes them whose mailboxes roll."""
    return replace(
        state,
        mail_memory_URD=state.mail_memory_URD[:, :0],
        mail_event_UR=state.mail_event_UR[:, :0],
    )


def replace_rows(state: NodeState, rows: slice) -> NodeState:
    return NodeState(**{name: getattr(state, name)[rows] for name in FIELDS})


def mail_of(layout: Layout, pairs: np.ndarray, values: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Deliveries of (node, event) pairs whose memory is one value throughout."""
    nodes_X, events_X = torch.tensor(pairs.reshape(-1, 2), dtype=torch.int64).unbind(1)
    return nodes_X, events_X, torch.from_numpy(values)[:, None].repeat(1, layout.dim)


def mail_in(state: NodeState, node: int) -> dict[int, float]:
    """Events in a node's mailbox and the first number of each mail; empty slots come last."""
    num = int((state.mail_event_UR[node] != NO_EVENT).sum())
    assert (state.mail_event_UR[node, num:] == NO_EVENT).all()
    assert not state.mail_memory_URD[node, num:].any()
    events, memory = state.mail_event_UR[node, :num], state.mail_memory_URD[node, :num]
    assert torch.equal(memory, memory[:, :1].expand_as(memory))
    return dict(zip(events.tolist(), memory[:, 0].tolist(), strict=True))


def ids(*nodes: int) -> Tensor:
    return torch.tensor(nodes, dtype=torch.int64)


def assert_same_rows(one: NodeState, other: NodeState) -> None:
    for name in FIELDS:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def assert_same_transitions(one: TransitionRows | None, other: TransitionRows | None) -> None:
    """Equal to the last bit."""
    if one is None or other is None:
        assert one is other
        return
    assert torch.equal(one.num_observed_U, other.num_observed_U)
    assert torch.equal(one.rate_UD, other.rate_UD)


def assert_same_store(one: MemoryStore, other: MemoryStore, layout: Layout) -> None:
    assert_same_rows(one.pull(layout.everyone).state, other.pull(layout.everyone).state)
    assert_same_transitions(
        one.pull(layout.everyone).transitions, other.pull(layout.everyone).transitions
    )


def through_a_file(state: dict[str, object]) -> dict[str, object]:
    """As a checkpoint would: only tensors and plain containers survive."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded
