"""Batches of events that are hard on a store, played with numbers that no slice changes.

Shapes: B events, U nodes of a request, P endpoints, D memory size, R mailbox slots.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pres_dist.memory.state import NO_EVENT, MemoryStore, NodeState
from pres_dist.pres.statistics import TransitionRows
from pres_dist.step.mail import collect_mail
from tests.support.store_of_all import make_local
from tests.support.store_rows import EPOCH_MS, Layout, ids, random_state


@dataclass(frozen=True)
class Scenario:
    """A random stream in which few nodes meet often, cut into random time slices."""

    name: str
    layout: Layout
    num_events: int = 12
    num_steps: int = 6
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    src_B: Tensor
    dst_B: Tensor
    events_B: Tensor
    negatives_B: Tensor

    def slice_of(self, cuts: Tensor, rank: int) -> Batch:
        part = slice(int(cuts[rank]), int(cuts[rank + 1]))
        return Batch(**{name: column[part] for name, column in vars(self).items()})


def layouts() -> Iterator[tuple[str, Layout]]:
    for num_slots, components in itertools.product((1, 3), (0, 1, 2)):
        layout = Layout(num_nodes=7, num_slots=num_slots, num_components=components)
        yield f"{num_slots}-slots-{components}-components", layout


SCENARIOS = [
    *(Scenario(name, layout, seed=seed) for seed, (name, layout) in enumerate(layouts())),
    Scenario("one-node", Layout(num_nodes=1, num_slots=3), num_events=5, seed=11),
    Scenario("two-nodes", Layout(num_nodes=2, num_slots=3, clock="time"), seed=12),
    Scenario("more-workers-than-events", Layout(num_nodes=5, num_slots=3), num_events=2, seed=13),
    Scenario("hardly-a-conflict", Layout(num_nodes=101, num_slots=3, clock="event"), seed=14),
    Scenario("long", Layout(num_nodes=23, dim=5, num_slots=3), num_events=60, seed=15),
    Scenario("rolling", Layout(num_nodes=9, num_slots=3, rolling=True), seed=17),
    Scenario("rolling-long", Layout(num_nodes=23, rolling=True), num_events=60, seed=18),
    Scenario("negative-heavy", Layout(num_nodes=9, dim=1, num_slots=1), num_events=40, seed=16),
]


def batches(scenario: Scenario) -> Iterator[Batch]:
    random = torch.Generator().manual_seed(scenario.seed)
    nodes = (scenario.num_events,), random
    for step in range(scenario.num_steps):
        src_B, dst_B, negatives_B = (
            torch.randint(scenario.layout.num_nodes, nodes[0], generator=random) for _ in range(3)
        )
        loop_B = torch.rand(scenario.num_events, generator=random) < 0.2
        events_B = torch.arange(scenario.num_events) + step * scenario.num_events
        # Ids beyond what a float32 holds.
        events_B += (1 << 40) + 1
        yield Batch(src_B, torch.where(loop_B, src_B, dst_B), events_B, negatives_B)


def cuts_of(scenario: Scenario, world: int, step: int) -> Tensor:
    """Borders of the time slices; some slices are empty."""
    random = torch.Generator().manual_seed(1000 * scenario.seed + step)
    inner = torch.randint(scenario.num_events + 1, (world - 1,), generator=random).sort().values
    return torch.cat([ids(0), inner, ids(scenario.num_events)])


def run_step(store: MemoryStore, batch: Batch, step: int) -> None:
    """Pull, update, observe and push, with numbers that do not depend on the slice.

    Some steps announce what they will deliver, and some do not.
    """
    endpoints_2B = torch.cat([batch.src_B, batch.dst_B])
    nodes_U, index = torch.unique(torch.cat([endpoints_2B, batch.negatives_B]), return_inverse=True)
    pulled = store.pull(
        nodes_U,
        writes_U=torch.isin(nodes_U, endpoints_2B) if step % 4 else None,
        observes_U=torch.isin(nodes_U, batch.negatives_B) if step % 3 else None,
    )
    state, rows = pulled.state, pulled.transitions
    memory_UD, last_update_U = updated(nodes_U, state, rows, step)
    negative_V = torch.unique(index[len(endpoints_2B) :])
    store.observe(nodes_U[negative_V], memory_UD[negative_V], last_update_U[negative_V])
    index_2B, num_slots = index[: len(endpoints_2B)], 0 if store.rolling else store.num_slots
    rows_P, new = new_state(index_2B, batch.events_B, memory_UD, num_slots)
    store.push(nodes_U[rows_P], replace(new, last_update_U=last_update_U[rows_P]), learn=step != 3)
    if store.rolling:
        store.deliver(*mail(batch, memory_UD, index_2B, store.num_nodes))


def mail(
    batch: Batch, memory_UD: Tensor, index_2B: Tensor, num_nodes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each event to one endpoint and to one or two others, with both endpoints' memory."""
    others_B = (batch.negatives_B + batch.events_B) % num_nodes
    pairs_X2 = torch.cat(
        [
            torch.stack([receivers_B, torch.arange(len(batch.events_B))], dim=1)
            for receivers_B in (batch.dst_B, batch.negatives_B, others_B)
        ]
    ).unique(dim=0)
    nodes_X, place_X = pairs_X2.unbind(1)
    memory_XD = memory_UD[index_2B].view(2, -1, memory_UD.shape[1]).sum(0)[place_X]
    return nodes_X, batch.events_B[place_X], memory_XD


def new_state(
    index_2B: Tensor, events_B: Tensor, memory_UD: Tensor, num_slots: int
) -> tuple[Tensor, NodeState]:
    """Rows of the endpoints [P], and their state without a time; none for an empty slice."""
    rows_P, endpoint_2B = torch.unique(index_2B, return_inverse=True)
    if not len(events_B):
        return rows_P, random_state(Layout(dim=memory_UD.shape[1], num_slots=num_slots), 0, 0, [])
    mail = collect_mail(endpoint_2B, index_2B, events_B, len(rows_P), num_slots)
    message_PRD = memory_UD[mail.other_PR] * (mail.event_PR != NO_EVENT)[:, :, None]
    return rows_P, NodeState(memory_UD[rows_P], rows_P, message_PRD, mail.event_PR, mail.count_P)


def updated(
    nodes_U: Tensor, state: NodeState, rows: TransitionRows | None, step: int
) -> tuple[Tensor, Tensor]:
    """Memory and time that depend on everything that was pulled."""
    noise_U = torch.sin(nodes_U.double() * 12.9 + step).float()
    memory_UD = 0.5 * state.memory_UD + noise_U[:, None]
    for slot in range(state.mail_event_UR.shape[1]):
        memory_UD = memory_UD + 0.25 * state.mail_memory_URD[:, slot]
    if rows is not None:
        memory_UD = memory_UD + 1e-3 * rows.rate_UD * rows.num_observed_U[:, None]
    newest_U = state.mail_event_UR.amax(1) + state.mail_count_U
    t_U = EPOCH_MS + newest_U * 60_000
    return memory_UD, torch.where(state.mail_count_U > 0, t_U, state.last_update_U)


def play_whole(scenario: Scenario) -> list[dict[str, Any]]:
    store, states = make_local(scenario.layout), []
    for step, batch in enumerate(batches(scenario)):
        run_step(store, batch, step)
        states.append(copied(store.state_dict()))
    return states


def copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: copied(value) for name, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state
