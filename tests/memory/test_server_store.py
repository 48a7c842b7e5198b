"""The server store: the contract, and equality with one process.

Shards live in threads of this process.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from pres_dist.errors import CheckpointError
from pres_dist.memory.placement import Placement
from pres_dist.memory.saved import Shard
from pres_dist.memory.server import ServerStore
from pres_dist.memory.shard_server import MAX_AHEAD, ShardServer
from pres_dist.memory.state import MemoryStore, NodeState
from tests.memory.store_contract import StoreContract, program_settings, random_programs
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.nightly import drawn, nightly_except
from tests.support.shard_hosts import (
    TIMEOUT_S,
    MakeServer,
    Shards,
    SlowServer,
    keep_server_store,
    leave,
    with_shards,
)
from tests.support.states import assert_same
from tests.support.store_of_all import StoreOfAll, TablePlacement, put_together
from tests.support.store_rows import FIELDS, Layout, assert_same_rows, ids, random_state
from tests.support.store_scenarios import (
    SCENARIOS,
    Scenario,
    batches,
    copied,
    cuts_of,
    play_whole,
    run_step,
)

WORLDS_AND_SHARDS = nightly_except([(3, 2)], [(1, 2), (2, 1), (3, 2), (4, 3)])


# --------------------------------------------------------------- the contract


class ServedStore(StoreOfAll):
    """The stores of all workers, seen as one from outside, and the shards they share."""

    def __init__(
        self, gloo: GlooWorld, world: int, num_shards: int, layout: Layout, key: int
    ) -> None:
        self.num_nodes, self.dim, self.num_slots = layout.num_nodes, layout.dim, layout.num_slots
        self.rolling = layout.rolling
        self._gloo, self._world, self._key = gloo, world, key
        placement = Placement(layout.num_nodes, num_shards)
        self._shards = Shards(world, layout, placement)
        self._call(keep_server_store, self._shards.rendezvous, placement, layout, TIMEOUT_S)

    def state_dict(self) -> dict[str, Any]:
        return {"shards": self._call(save)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._call(load, state["shards"])

    def close(self) -> None:
        self._call(leave)
        self._shards.join()


def save(worker: Worker, key: int) -> dict[str, Any]:
    state: dict[str, Any] = worker.kept[key].state_dict()
    return state


def load(worker: Worker, key: int, shards: list[dict[str, Any]]) -> None:
    worker.kept[key].load_state_dict(shards[worker.rank])


class ServerContract(StoreContract):
    world: int
    num_shards: int
    gloo: GlooWorld
    keys = itertools.count()
    alive: deque[ServedStore]

    @pytest.fixture(autouse=True)
    def _in_gloo(self, gloo: GlooWorld) -> Iterator[None]:
        type(self).gloo, type(self).alive = gloo, deque()
        yield
        while self.alive:
            self.alive.popleft().close()

    def make_store(self, layout: Layout) -> MemoryStore:
        while len(self.alive) > 4:  # no test looks back further
            self.alive.popleft().close()
        self.alive.append(
            ServedStore(self.gloo, self.world, self.num_shards, layout, next(self.keys))
        )
        return self.alive[-1]

    @settings(program_settings, max_examples=drawn(8, 2), suppress_health_check=list(HealthCheck))
    @random_programs
    def test_random_programs_against_a_dict(
        self, layout: Layout, verbs: list[str], data: st.DataObject
    ) -> None:
        self.run_program(layout, verbs, data)


@pytest.mark.nightly
class TestOneWorker(ServerContract):
    world, num_shards = 1, 3


@pytest.mark.nightly
class TestTwoWorkers(ServerContract):
    world, num_shards = 2, 2


class TestThreeWorkers(ServerContract):
    world, num_shards = 3, 2


@pytest.mark.nightly
class TestFourWorkers(ServerContract):
    world, num_shards = 4, 1


# ------------------------------------------------- equality with one process


def play_slices(worker: Worker, store: ServerStore, scenario: Scenario) -> list[Shard]:
    """Return the state that this worker saves after each step."""
    states = []
    for step, batch in enumerate(batches(scenario)):
        cuts = cuts_of(scenario, worker.world, step)
        run_step(store, batch.slice_of(cuts, worker.rank), step)
        states.append(saved_part(store))
    return states


def assert_slices_equal_whole(
    gloo: GlooWorld,
    world: int,
    placement: Placement,
    scenario: Scenario,
    make_server: MakeServer = ShardServer,
) -> None:
    layout = scenario.layout
    workers = with_shards(
        gloo, world, placement, layout, play_slices, scenario, make_server=make_server
    )
    for step, (one, *shards) in enumerate(zip(play_whole(scenario), *workers, strict=True)):
        assert_same(one, put_together(shards), str(step))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize(("world", "num_shards"), WORLDS_AND_SHARDS)
def test_slices_leave_the_state_of_the_whole_batch(
    gloo: GlooWorld, world: int, num_shards: int, scenario: Scenario
) -> None:
    placement = Placement(scenario.layout.num_nodes, num_shards)
    assert_slices_equal_whole(gloo, world, placement, scenario)


@pytest.mark.parametrize("owners", [[2, 0, 0, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1]])
def test_any_placement_gives_the_same_state(gloo: GlooWorld, owners: list[int]) -> None:
    scenario = Scenario("placed", Layout(num_nodes=7, num_slots=3), seed=20)
    placement = TablePlacement(torch.tensor(owners), 3)
    assert_slices_equal_whole(gloo, 2, placement, scenario)


@pytest.mark.parametrize("world", nightly_except([2], [2, 4]))
def test_slow_shards_change_nothing(gloo: GlooWorld, world: int) -> None:
    """Whatever is late, no read is older or newer than it must be."""
    scenario = Scenario("slow", Layout(num_nodes=7, num_slots=3), num_steps=20, seed=21)
    assert_slices_equal_whole(gloo, world, Placement(7, 2), scenario, SlowServer)


# --------------------------------------------------------------- checkpoints


def save_and_go_on(worker: Worker, store: ServerStore, seed: int) -> Shard | None:
    """Fill the store, take its state, and write more."""
    layout, saved = Layout(num_nodes=41, num_slots=3), None
    for step in range(3):
        if step == 2:
            saved = saved_part(store)
        state = random_state(layout, 41, seed + step, [1000 * (step + 1)] * 41)
        share = slice(worker.rank, None, worker.world)
        part = NodeState(**{name: getattr(state, name)[share] for name in FIELDS})
        store.push(torch.arange(41)[share], part, learn=True)
    return saved


def saved_part(store: ServerStore) -> Shard:
    return Shard(store.kept_nodes(), copied(store.state_dict()))


def rows_of(whole: dict[str, Any], nodes_S: Tensor) -> dict[str, Any]:
    return {
        part: {name: table[nodes_S] for name, table in tables.items()}
        for part, tables in whole.items()
    }


def load_and_save(worker: Worker, store: ServerStore, whole: dict[str, Any]) -> Shard:
    store.load_state_dict(rows_of(whole, store.kept_nodes()))
    assert store.version == 0
    return saved_part(store)


@pytest.mark.parametrize("chunk", [1, 32 << 20])
def test_a_checkpoint_loads_into_another_number_of_shards(
    gloo: GlooWorld, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    layout = Layout(num_nodes=41, num_slots=3)
    saved = with_shards(gloo, 2, Placement(41, 3), layout, save_and_go_on, 5)
    whole = put_together(saved)
    again = with_shards(gloo, 3, Placement(41, 2), layout, in_chunks, chunk, whole)
    assert_same(whole, put_together(again))
    assert whole["rows"]["memory_UD"].any()


def in_chunks(worker: Worker, store: ServerStore, chunk: int, whole: dict[str, Any]) -> Shard:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pres_dist.memory.server._CHUNK_BYTES", chunk)
        return load_and_save(worker, store, whole)


def load_at_own_pace(worker: Worker, store: ServerStore) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pres_dist.memory.server._CHUNK_BYTES", 1)
        saved = store.state_dict()
        time.sleep(0.5 * worker.rank)  # as if its part of the checkpoint were slower to read
        store.load_state_dict(saved)
    return store.pull(ids(0, 1)).version


def test_a_worker_that_loads_faster_waits_for_the_others(gloo: GlooWorld) -> None:
    num_nodes = 2 * (MAX_AHEAD + 5)
    layout = Layout(num_nodes=num_nodes)
    assert with_shards(gloo, 2, Placement(num_nodes, 2), layout, load_at_own_pace) == [0, 0]


def load_wrong(worker: Worker, store: ServerStore, whole: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        store.load_state_dict(rows_of(whole, store.kept_nodes()))
    return str(caught.value)


def test_a_state_of_another_layout_is_refused(gloo: GlooWorld) -> None:
    layout = Layout(num_nodes=41, num_slots=3)
    whole = put_together(with_shards(gloo, 2, Placement(41, 2), layout, save_and_go_on, 5))
    for other in (
        replace(layout, num_slots=1),
        replace(layout, num_components=0),
    ):
        placement = Placement(other.num_nodes, 2)
        (text,) = with_shards(gloo, 1, placement, other, load_wrong, whole)
        assert "saved memory" in text


# ------------------------------------------------------------------ staleness


def pull_in_background(worker: Worker, store: ServerStore) -> list[tuple[int, float]]:
    """Version and value of a pull that began before worker 1 had pushed."""
    seen, layout = [], Layout(num_nodes=2, num_slots=1)
    for step in range(4):
        state = random_state(layout, 1, step, [step])
        state.memory_UD.fill_(step + 1.0)
        if worker.rank == 1:
            time.sleep(0.05)
        store.push(ids(worker.rank), state, learn=False)
        pulled = store.pull(ids(1, 0))
        assert pulled.state.memory_UD[0, 0] == pulled.state.memory_UD[1, 0]
        seen.append((pulled.version, float(pulled.state.memory_UD[0, 0])))
    return seen


def test_a_pull_waits_for_the_pushes_of_all_workers(gloo: GlooWorld) -> None:
    layout = Layout(num_nodes=2, num_slots=1)
    results = with_shards(gloo, 2, Placement(2, 2), layout, pull_in_background)
    assert results == [[(step, float(step)) for step in range(1, 5)]] * 2


# -------------------------------------------------------------------- traffic


def measure_traffic(worker: Worker, store: ServerStore) -> dict[str, tuple[int, ...]]:
    nodes = ids(0, 1, 2, 4)
    state = store.pull(nodes).state
    store.push(nodes, state, learn=True)
    store.observe(nodes[:1], state.memory_UD[:1], state.last_update_U[:1])
    seen = {verb: tuple(vars(volume).values()) for verb, volume in vars(store.traffic).items()}
    assert_same_rows(store.pull(nodes).state, state)
    return seen


def test_traffic_counts_rows_and_bytes(gloo: GlooWorld) -> None:
    layout = Layout(num_nodes=7, dim=2, num_slots=1)
    (seen,) = with_shards(gloo, 1, Placement(7, 2), layout, measure_traffic)
    row = 8 + 2 * 4 + 8 + 2 * 4 + 8 + 8  # id, memory, time, message, event, count
    assert seen["pull"] == (0, 4, 0, 4 * (row + 8 + 2 * 4))  # and transitions: count, rate
    assert seen["push"] == (0, 4, 0, 4 * row)
    assert seen["observe"] == (0, 1, 0, 8 + 8 + 8)
