"""The sharded store in real gloo worlds: the contract, and equality with one process.

Shapes: B events, U nodes of a request, P endpoints, D memory size, R mailbox slots.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from gloo_world import COLLECTIVE_S, GlooWorld, Worker, WorkerError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from store_contract import (
    FIELDS,
    Layout,
    StoreContract,
    assert_same_rows,
    assert_same_store,
    ids,
    program_settings,
    random_programs,
    random_state,
)
from torch import Tensor

from pres_dist.errors import CheckpointError
from pres_dist.memory.local import LocalStore
from pres_dist.memory.merge import merge_rows
from pres_dist.memory.placement import ModuloPlacement, Placement, TablePlacement
from pres_dist.memory.sharded import ShardedStore, whole_state
from pres_dist.memory.state import (
    NO_EVENT,
    MemoryStore,
    NodeState,
    Pulled,
    TransitionRows,
)
from pres_dist.step.mail import collect_mail

WORLDS = [1, 2, 3, 4]
EPOCH_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    with GlooWorld(max(WORLDS), tmp_path_factory.mktemp("gloo")) as world:
        yield world


def make_store(worker: Worker, layout: Layout, placement: Placement | None = None) -> ShardedStore:
    placement = placement or ModuloPlacement(layout.num_nodes, worker.world)
    return ShardedStore(shard_of(placement, worker.rank, layout), placement, worker.group)


def shard_of(placement: Placement, rank: int, layout: Layout) -> LocalStore:
    return make_local(replace(layout, num_nodes=len(placement.nodes_of(rank))))


def make_local(layout: Layout) -> LocalStore:
    return LocalStore(layout.num_nodes, layout.dim, layout.num_slots, layout.statistics())


# --------------------------------------------------------------- the contract


class StoreOfAll:
    """The stores of all workers of a world, seen as one from outside.

    Everybody pulls everything asked for, each in an order of its own, and must get
    the same. Of a push each worker pushes a part.
    """

    def __init__(self, gloo: GlooWorld, world: int, layout: Layout, key: int) -> None:
        self.num_nodes, self.dim, self.num_slots = layout.num_nodes, layout.dim, layout.num_slots
        self._gloo, self._world, self._key = gloo, world, key
        gloo.run(world, keep_store, key, layout)

    def _call(self, function: Any, *args: Any) -> list[Any]:
        return self._gloo.run(self._world, function, self._key, *args)

    @property
    def version(self) -> int:
        first, *others = self._call(version)
        assert all(other == first for other in others)
        return int(first)

    def pull(
        self,
        nodes_U: Tensor,
        with_mixture: bool = False,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        first, *others = self._call(pull_rotated, nodes_U, with_mixture, writes_U, observes_U)
        for other in others:
            assert_same_rows(first.state, other.state)
        pulled: Pulled = first
        return pulled

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        self._call(push_share, nodes_U, state, learn, seen)

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        self._call(observe_share, nodes_U, memory_UD, last_update_U)

    def reset(self) -> None:
        self._call(reset)

    def state_dict(self) -> dict[str, Any]:
        return {"shards": self._call(save)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._call(load, state["shards"])


def keep_store(worker: Worker, key: int, layout: Layout) -> None:
    worker.kept[key] = make_store(worker, layout)


def version(worker: Worker, key: int) -> int:
    number: int = worker.kept[key].version
    return number


def pull_rotated(
    worker: Worker,
    key: int,
    nodes_U: Tensor,
    with_mixture: bool,
    writes_U: Tensor | None,
    observes_U: Tensor | None,
) -> Pulled:
    """What worker 0 asked for; the state of all others put into its order.

    Of what is announced, each announces the share that it will push.
    """
    marks = {"writes_U": writes_U, "observes_U": observes_U}
    shares = {name: share_of(mask, worker) for name, mask in marks.items() if mask is not None}
    shift = 0 if shares else worker.rank
    pulled: Pulled = worker.kept[key].pull(nodes_U.roll(shift), with_mixture, **shares)
    rows = {name: getattr(pulled.state, name).roll(-shift, 0) for name in FIELDS}
    return replace(pulled, state=NodeState(**rows))


def share_of(mask_U: Tensor, worker: Worker) -> Tensor:
    """Every W-th of the marked rows, as `push_share` takes them."""
    return mask_U & ((mask_U.cumsum(0) - 1) % worker.world == worker.rank)


def push_share(
    worker: Worker, key: int, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None
) -> None:
    share = slice(worker.rank, None, worker.world)
    part = NodeState(**{name: getattr(state, name)[share] for name in FIELDS})
    worker.kept[key].push(nodes_U[share], part, learn, seen)


def observe_share(
    worker: Worker, key: int, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor
) -> None:
    share = slice(worker.rank, None, worker.world)
    worker.kept[key].observe(nodes_U[share], memory_UD[share], last_update_U[share])


def reset(worker: Worker, key: int) -> None:
    worker.kept[key].reset()


def save(worker: Worker, key: int) -> dict[str, Any]:
    state: dict[str, Any] = worker.kept[key].state_dict()
    return state


def load(worker: Worker, key: int, shards: Sequence[dict[str, Any]]) -> None:
    worker.kept[key].load_state_dict(shards[worker.rank])


class ShardedContract(StoreContract):
    world: int
    gloo: GlooWorld
    keys = itertools.count()

    @pytest.fixture(autouse=True)
    def _in_gloo(self, gloo: GlooWorld) -> None:
        type(self).gloo = gloo

    def make_store(self, layout: Layout) -> MemoryStore:
        return StoreOfAll(self.gloo, self.world, layout, next(self.keys))

    # Fewer than for a store in this process: a verb is a round trip to all workers.
    @settings(program_settings, max_examples=15, suppress_health_check=list(HealthCheck))
    @random_programs
    def test_random_programs_against_a_dict(
        self, layout: Layout, verbs: list[str], data: st.DataObject
    ) -> None:
        self.run_program(layout, verbs, data)


class TestOneWorker(ShardedContract):
    world = 1


class TestTwoWorkers(ShardedContract):
    world = 2


class TestThreeWorkers(ShardedContract):
    world = 3


class TestFourWorkers(ShardedContract):
    world = 4


# ------------------------------------------------- equality with one process


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
        with_mixture=step % 2 == 0,
        writes_U=torch.isin(nodes_U, endpoints_2B) if step % 4 else None,
        observes_U=torch.isin(nodes_U, batch.negatives_B) if step % 3 else None,
    )
    state, rows = pulled.state, pulled.transitions
    memory_UD, last_update_U = updated(nodes_U, state, rows, step)
    negative_V = torch.unique(index[len(endpoints_2B) :])
    store.observe(nodes_U[negative_V], memory_UD[negative_V], last_update_U[negative_V])
    rows_P, new = new_state(index[: len(endpoints_2B)], batch.events_B, memory_UD, store.num_slots)
    store.push(nodes_U[rows_P], replace(new, last_update_U=last_update_U[rows_P]), learn=step != 3)


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
        if rows.mixture is not None:
            memory_UD = memory_UD + 1e-3 * rows.mixture.variance_UCD[:, 0]
    newest_U = state.mail_event_UR.amax(1) + state.mail_count_U
    t_U = EPOCH_MS + newest_U * 60_000
    return memory_UD, torch.where(state.mail_count_U > 0, t_U, state.last_update_U)


def play_slices(worker: Worker, scenario: Scenario, owner_N: Tensor | None) -> list[dict[str, Any]]:
    """The state of this worker's shard after each step."""
    placement = None if owner_N is None else TablePlacement(owner_N, worker.world)
    store, states = make_store(worker, scenario.layout, placement), []
    for step, batch in enumerate(batches(scenario)):
        cuts = cuts_of(scenario, worker.world, step)
        run_step(store, batch.slice_of(cuts, worker.rank), step)
        states.append(copied(store.state_dict()))
    return states


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


def assert_slices_equal_whole(
    gloo: GlooWorld, world: int, scenario: Scenario, owner_N: Tensor | None = None
) -> None:
    workers = gloo.run(world, play_slices, scenario, owner_N)
    for step, (one, *shards) in enumerate(zip(play_whole(scenario), *workers, strict=True)):
        all_shards = whole_state(shards)
        for part in ("rows", "statistics"):
            assert one[part].keys() == all_shards[part].keys()
            for name, table in one[part].items():
                assert torch.equal(table, all_shards[part][name]), (step, part, name)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("world", WORLDS)
def test_slices_leave_the_state_of_the_whole_batch(
    gloo: GlooWorld, world: int, scenario: Scenario
) -> None:
    assert_slices_equal_whole(gloo, world, scenario)


@pytest.mark.parametrize("owners", [[2, 0, 0, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1]])
def test_any_placement_gives_the_same_state(gloo: GlooWorld, owners: list[int]) -> None:
    scenario = Scenario("placed", Layout(num_nodes=7, num_slots=3), seed=20)
    assert_slices_equal_whole(gloo, 3, scenario, torch.tensor(owners))


def test_the_scenarios_are_hard_enough() -> None:
    """Self-loops, nodes in several slices, mailboxes that overflow, empty slices."""
    scenario = next(each for each in SCENARIOS if each.name == "3-slots-2-components")
    loops = shared = empty = 0
    for step, batch in enumerate(batches(scenario)):
        cuts = cuts_of(scenario, 3, step)
        parts = [batch.slice_of(cuts, rank) for rank in range(3)]
        touched = [set(torch.cat([part.src_B, part.dst_B]).tolist()) for part in parts]
        loops += int((batch.src_B == batch.dst_B).sum())
        shared += len(touched[0] & touched[1] | touched[1] & touched[2])
        empty += sum(not nodes for nodes in touched)
    last = play_whole(scenario)[-1]["rows"]
    assert loops > 5
    assert shared > 5
    assert empty > 0
    assert (last["mail_count_U"] > 3).any()


# ------------------------------------------------------------- conflicts


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


# ------------------------------------------------------------- traffic


@dataclass
class ExchangeCounter:
    """Counts all collectives of this module, and the bytes that they send."""

    count: int = 0
    num_bytes: int = 0

    def __call__(self, received: Tensor, sent: Tensor, *sizes: Any, **options: Any) -> None:
        self.count += 1
        self.num_bytes += sent.numel() * sent.element_size()
        self.exchange(received, sent, *sizes, **options)

    exchange = staticmethod(dist.all_to_all_single)


def counted(verb: Callable[[], Any]) -> tuple[int, int]:
    """Exchanges that a verb takes, and the bytes that this worker sends in them."""
    counter = ExchangeCounter()
    with mock.patch.object(dist, "all_to_all_single", counter):
        verb()
    return counter.count, counter.num_bytes


def count_exchanges(worker: Worker) -> dict[str, int]:
    store = make_store(worker, Layout())
    nodes = ids(0, 1, 4) if worker.rank else ids(2)
    state, everything = store.pull(nodes).state, nodes >= 0
    verbs = {
        "pull": lambda: store.pull(nodes.flip(0), True),
        "push": lambda: store.push(nodes, state, learn=True),
        "observe": lambda: store.observe(nodes, state.memory_UD, state.last_update_U),
        "announcing pull": lambda: store.pull(nodes, False, everything, everything),
        "announced push": lambda: store.push(nodes, state, learn=True),
        "announced observe": lambda: store.observe(nodes, state.memory_UD, state.last_update_U),
        "next push": lambda: store.push(nodes, state, learn=True),
    }
    return {name: counted(verb)[0] for name, verb in verbs.items()}


def test_number_of_exchanges(gloo: GlooWorld) -> None:
    """At most two a pull; one a push that a pull has announced."""
    zero, one = gloo.run(2, count_exchanges)
    assert zero == one
    assert zero == {
        "pull": 2,
        "push": 2,
        "observe": 2,
        "announcing pull": 2,
        "announced push": 1,
        "announced observe": 1,
        "next push": 2,
    }


def measure_traffic(worker: Worker) -> dict[str, tuple[int, ...]]:
    store = make_store(worker, Layout(num_nodes=7, dim=3, num_slots=1))
    nodes = ids(0, 1, 2, 4) if worker.rank == 0 else ids()
    state = store.pull(nodes, writes_U=nodes >= 0).state
    store.push(nodes, state, learn=True)
    store.observe(nodes[:1], state.memory_UD[:1], state.last_update_U[:1])
    seen = {verb: tuple(vars(volume).values()) for verb, volume in vars(store.traffic).items()}
    store.traffic.reset()
    assert not any(any(vars(volume).values()) for volume in vars(store.traffic).values())
    return seen


def test_traffic_counts_rows_and_bytes(gloo: GlooWorld) -> None:
    """Rows as they are; ids with the header and the empty places of their block."""
    asked, silent = gloo.run(2, measure_traffic)
    block = 8 * (6 + 64)
    row = 3 * 4 + 8 + 3 * 4 + 8 + 8  # memory, time, message, event, count
    pulled = row + 8 + 3 * 4 + 4  # and transitions: count, rate; rows end on 8 bytes
    assert asked["pull"] == (3, 1, block + 3 * pulled, block + pulled)
    assert asked["push"] == (3, 1, 3 * row, row)
    assert asked["observe"] == (1, 0, block + 12 + 8 + 4, block)
    assert silent == {
        "pull": (0, 0, block, block),
        "push": (0, 0, 0, 0),
        "observe": (0, 0, block, block),
    }


def sent_and_counted(worker: Worker) -> list[tuple[int, int]]:
    """Bytes that a push really sends to all, and those that it counts."""
    store, seen = make_store(worker, Layout(num_nodes=500)), []
    for nodes in (ids(1, 3, 8), torch.arange(300), ids()):
        state = random_state(Layout(), len(nodes), 1, [EPOCH_MS] * len(nodes))
        store.traffic.reset()
        _, sent = counted(lambda n=nodes, s=state: store.push(n, s, learn=False))
        volume = store.traffic.push
        seen.append((sent, volume.local_bytes + volume.remote_bytes))
    return seen


def test_all_bytes_that_are_sent_are_counted(gloo: GlooWorld) -> None:
    for worker in gloo.run(3, sent_and_counted):
        assert [sent for sent, _ in worker] == [counted for _, counted in worker]
        assert worker[1][0] > worker[0][0] > 0


# -------------------------------------------------- room, announcements


def pull_growing(worker: Worker, world: int) -> list[tuple[int, int]]:
    """Exchanges of pulls that need ever more room, and whether the rows were right."""
    num_nodes, seen = 2000, []
    # All rows are with the last worker: the largest skew there is.
    placement = TablePlacement(torch.full((num_nodes,), world - 1), world)
    store = make_store(worker, Layout(num_nodes=num_nodes, dim=1), placement)
    everyone = torch.arange(num_nodes if worker.rank == 0 else 0)
    state = random_state(Layout(dim=1), len(everyone), 0, [EPOCH_MS] * len(everyone))
    state.memory_UD[:, 0] = everyone
    store.push(everyone, state, learn=False)
    store = ShardedStore(store.shard, placement, worker.group)
    # Only one worker has the large request, another one each time.
    for turn, num in enumerate((0, 3, 64, 65, 70, 0, 200, 1500, 1500, 2000)):
        mine = num if turn % world == worker.rank else min(num, 1)
        nodes = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(turn))[:mine]
        pulled: list[Pulled] = []
        exchanges, _ = counted(lambda n=nodes, p=pulled: p.append(store.pull(n)))
        seen.append((exchanges, int(torch.equal(pulled[0].state.memory_UD[:, 0], nodes.float()))))
    return seen


@pytest.mark.parametrize("world", WORLDS)
def test_blocks_grow_for_all_when_one_worker_needs_more_room(gloo: GlooWorld, world: int) -> None:
    for worker in gloo.run(world, pull_growing, world):
        assert [right for _, right in worker] == [1] * 10
        assert [exchanges for exchanges, _ in worker] == [2, 2, 2, 3, 2, 2, 3, 3, 2, 3]


def push_in_order_of_pulls(worker: Worker) -> bool:
    """Three pulls are under way before the first push; rows of each must be told apart."""
    store, one = make_store(worker, Layout(num_nodes=40)), make_store(worker, Layout(num_nodes=40))
    requests = []
    for step in range(3):
        random = torch.Generator().manual_seed(10 * step + worker.rank)
        nodes = torch.randperm(40, generator=random)[: 5 * step + 3 * worker.rank]
        writes = torch.rand(len(nodes), generator=random) < 0.5
        observes = torch.rand(len(nodes), generator=random) < 0.5
        store.pull(nodes, writes_U=writes, observes_U=observes)
        requests.append((nodes[writes], nodes[observes]))
    for step, (written, observed) in enumerate(requests):
        t = EPOCH_MS + 60_000 * step
        state = random_state(Layout(), len(written), step, [t] * len(written))
        other = random_state(Layout(), len(observed), step + 7, [t + 60_000] * len(observed))
        for each in (store, one):  # announced, and not
            each.observe(observed, other.memory_UD, other.last_update_U)
            each.push(written, state, learn=True)
    assert_same_store(store, one, Layout(num_nodes=40))
    return bool(store.pull(torch.arange(40)).state.memory_UD.any())


@pytest.mark.parametrize("world", WORLDS)
def test_pushes_follow_the_order_of_their_pulls(gloo: GlooWorld, world: int) -> None:
    assert all(gloo.run(world, push_in_order_of_pulls))


def errors_of_delivering(worker: Worker) -> list[str]:
    store, layout, texts = make_store(worker, Layout()), Layout(), []
    nodes = ids(1, 4, 6)
    store.pull(nodes, False, ids(1, 0, 1) > 0, ids(0, 0, 1) > 0)
    for wrong in (ids(1, 4), ids(6, 1), ids(1), ids(1, 4, 6)):
        state = random_state(layout, len(wrong), 0, [EPOCH_MS] * len(wrong))
        with pytest.raises(ValueError, match="announced") as caught:
            store.push(wrong, state, learn=False)
        texts.append(str(caught.value))
    with pytest.raises(ValueError, match="announced"):
        store.observe(ids(1), torch.zeros(1, 3), ids(EPOCH_MS))
    state = random_state(layout, 2, 0, [EPOCH_MS] * 2)
    store.push(ids(1, 6), state, learn=False)
    assert torch.equal(store.pull(ids(1, 6)).state.memory_UD, state.memory_UD)
    return texts


def test_other_rows_than_those_announced_are_refused(gloo: GlooWorld) -> None:
    texts, _ = gloo.run(2, errors_of_delivering)
    assert "2 nodes" in texts[2]
    assert "got 1" in texts[2]


def announce_alone(worker: Worker) -> str:
    store, nodes = make_store(worker, Layout()), ids(2, 5)
    with pytest.raises(ValueError, match="all workers") as caught:
        store.pull(nodes, writes_U=nodes > 2 if worker.rank == 1 else None)
    store.push(nodes, store.pull(nodes).state, learn=False)  # and all can go on
    return str(caught.value)


def test_workers_that_announce_differently_all_raise(gloo: GlooWorld) -> None:
    zero, *others = gloo.run(3, announce_alone)
    assert "[0, 1, 0]" in zero
    assert others == [zero, zero]


def forget(worker: Worker) -> list[int]:
    """Exchanges of a push after each way to start afresh: none is announced any more."""
    store, nodes, seen = make_store(worker, Layout()), ids(2, 5), []
    saved = copied(store.state_dict())
    for afresh in (store.reset, lambda: store.load_state_dict(saved)):
        state = store.pull(nodes, False, nodes > 2, nodes > 2).state
        afresh()
        verbs = (
            lambda s=state: store.push(nodes, s, learn=True),
            lambda s=state: store.observe(nodes, s.memory_UD, s.last_update_U),
        )
        seen += [counted(verb)[0] for verb in verbs]
    return seen


def test_reset_and_load_forget_what_was_announced(gloo: GlooWorld) -> None:
    assert gloo.run(2, forget) == [[2, 2, 2, 2]] * 2


def without_observations(worker: Worker) -> int:
    """A store that takes no observations has nothing to announce."""
    store, nodes = make_store(worker, Layout(num_components=1)), ids(2, 5)
    pulled = store.pull(nodes, False, nodes > 2, nodes > 2)
    exchanges, _ = counted(
        lambda: store.observe(nodes, pulled.state.memory_UD, pulled.state.last_update_U)
    )
    return exchanges


def test_observations_that_nobody_takes_cost_nothing(gloo: GlooWorld) -> None:
    assert gloo.run(2, without_observations) == [0, 0]


# ------------------------------------------------- threads and groups


def pull_in_the_background(worker: Worker) -> int:
    """Pulls on a thread, over a group of the store's own, while this one reduces."""
    group = dist.new_group(list(range(worker.world)))
    placement = ModuloPlacement(300, worker.world)
    layout = Layout(num_nodes=300)
    store = ShardedStore(shard_of(placement, worker.rank, layout), placement, group)
    everyone = torch.arange(300)
    state = random_state(layout, 300, 1, [EPOCH_MS] * 300)
    store.push(everyone, state, learn=False)
    right = 0
    with ThreadPoolExecutor(1) as thread:
        for step in range(30):
            nodes = torch.randperm(300)[: 10 * step]
            pull = thread.submit(store.pull, nodes, writes_U=nodes % 2 == 0)
            total = torch.ones(1000)
            for _ in range(3):
                dist.all_reduce(total)  # the default group
            pulled = pull.result(COLLECTIVE_S).state
            written = nodes[nodes % 2 == 0]
            rows = NodeState(**{name: getattr(pulled, name)[nodes % 2 == 0] for name in FIELDS})
            store.push(written, rows, learn=False)
            right += torch.equal(pulled.memory_UD, state.memory_UD[nodes])
            right += bool((total == worker.world**3).all())
    return right


def test_pulls_on_a_thread_beside_collectives_of_another_group(tmp_path: Path) -> None:
    # Workers of its own: the default group is the world's, of all of them.
    with GlooWorld(2, tmp_path) as world:
        assert world.run(2, pull_in_the_background) == [60, 60]


# ------------------------------------------------------------- errors


def errors_of_loading(worker: Worker) -> list[str]:
    store, layout = make_store(worker, Layout()), Layout()
    state = store.state_dict()
    pairs = TablePlacement(torch.arange(7) // 2 % 2, 2)
    wrong = [
        {**state, "rank": 1 - worker.rank},
        {**state, "world": 3},
        make_store(worker, replace(layout, num_slots=3)).state_dict(),
        make_store(worker, replace(layout, num_components=1)).state_dict(),
        {**state, "nodes": pairs.nodes_of(worker.rank)},
        make_local(layout).state_dict(),
    ]
    texts = []
    for each in wrong:
        with pytest.raises(CheckpointError) as caught:
            store.load_state_dict(each)
        texts.append(str(caught.value))
    return texts


def test_a_state_of_another_shard_is_refused(gloo: GlooWorld) -> None:
    texts, _ = gloo.run(2, errors_of_loading)
    assert "'rank': 0" in texts[0]
    assert "'rank': 1" in texts[0]
    assert "placement" in texts[4]


def errors_of_making(worker: Worker) -> list[str]:
    layout, texts = Layout(), []
    for placement in (ModuloPlacement(7, worker.world + 1), ModuloPlacement(9, worker.world)):
        with pytest.raises(ValueError, match="must") as caught:
            ShardedStore(
                shard_of(ModuloPlacement(7, worker.world), worker.rank, layout),
                placement,
                worker.group,
            )
        texts.append(str(caught.value))
    return texts


def test_a_placement_that_does_not_fit_is_refused(gloo: GlooWorld) -> None:
    texts, _ = gloo.run(2, errors_of_making)
    assert "2 workers" in texts[0]
    assert "5 rows" in texts[1]


def ask_for_strangers(worker: Worker) -> int:
    store, caught = make_store(worker, Layout()), 0
    for stranger in (7, -1):
        try:
            store.pull(ids(stranger))
        except (IndexError, RuntimeError):
            caught += 1
    return caught


def test_a_node_outside_the_stream_raises(gloo: GlooWorld) -> None:
    assert gloo.run(1, ask_for_strangers) == [2]


# ------------------------------------------------------- the world itself


def rank_and_process(worker: Worker) -> tuple[int, int]:
    return worker.rank, os.getpid()


def raise_on_last(worker: Worker) -> None:
    if worker.rank == worker.world - 1:
        raise RuntimeError("on purpose")
    dist.barrier(worker.group)


def test_a_worker_that_raises_leaves_no_process_behind(tmp_path: Path) -> None:
    """Others wait for it in a collective; the next call finds new workers."""
    with GlooWorld(2, tmp_path) as world:
        before = world.run(2, rank_and_process)
        start = time.monotonic()
        with pytest.raises(WorkerError, match=r"worker 1 raised:(.|\n)*on purpose"):
            world.run(2, raise_on_last)
        assert time.monotonic() - start < COLLECTIVE_S / 2
        after = world.run(2, rank_and_process)
    assert [rank for rank, _ in before + after] == [0, 1, 0, 1]
    assert not any(Path(f"/proc/{process}").exists() for _, process in before + after)
