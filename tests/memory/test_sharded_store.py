"""The sharded store in real gloo worlds: the contract, and equality with one process."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from pres_dist.errors import CheckpointError
from pres_dist.memory.placement import Placement
from pres_dist.memory.saved import Shard
from pres_dist.memory.sharded import ShardedStore
from pres_dist.memory.state import (
    MemoryStore,
)
from tests.memory.store_contract import StoreContract, program_settings, random_programs
from tests.support.gloo_world import COLLECTIVE_S, GlooWorld, Worker, WorkerError
from tests.support.nightly import drawn, nightly_except
from tests.support.states import assert_same
from tests.support.store_of_all import (
    StoreOfAll,
    TablePlacement,
    make_local,
    make_store,
    put_together,
    shard_of,
)
from tests.support.store_rows import Layout, ids
from tests.support.store_scenarios import (
    SCENARIOS,
    Scenario,
    batches,
    copied,
    cuts_of,
    play_whole,
    run_step,
)

WORLDS = nightly_except([3], [1, 2, 3, 4])


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
    @settings(program_settings, max_examples=drawn(15, 2), suppress_health_check=list(HealthCheck))
    @random_programs
    def test_random_programs_against_a_dict(
        self, layout: Layout, verbs: list[str], data: st.DataObject
    ) -> None:
        self.run_program(layout, verbs, data)


@pytest.mark.nightly
class TestOneWorker(ShardedContract):
    world = 1


@pytest.mark.nightly
class TestTwoWorkers(ShardedContract):
    world = 2


class TestThreeWorkers(ShardedContract):
    world = 3


@pytest.mark.nightly
class TestFourWorkers(ShardedContract):
    world = 4


def play_slices(worker: Worker, scenario: Scenario, owner_N: Tensor | None) -> list[Shard]:
    """The state of this worker's shard after each step."""
    placement = None if owner_N is None else TablePlacement(owner_N, worker.world)
    store, states = make_store(worker, scenario.layout, placement), []
    for step, batch in enumerate(batches(scenario)):
        cuts = cuts_of(scenario, worker.world, step)
        run_step(store, batch.slice_of(cuts, worker.rank), step)
        states.append(Shard(store.kept_nodes(), copied(store.state_dict())))
    return states


def assert_slices_equal_whole(
    gloo: GlooWorld, world: int, scenario: Scenario, owner_N: Tensor | None = None
) -> None:
    workers = gloo.run(world, play_slices, scenario, owner_N)
    for step, (one, *shards) in enumerate(zip(play_whole(scenario), *workers, strict=True)):
        assert_same(one, put_together(shards), str(step))


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


# ------------------------------------------------------------- errors


def errors_of_loading(worker: Worker) -> list[str]:
    store, layout = make_store(worker, Layout()), Layout()
    wrong = [
        make_store(worker, replace(layout, num_slots=3)).state_dict(),
        make_store(worker, replace(layout, num_components=1)).state_dict(),
        make_local(layout).state_dict(),
    ]
    texts = []
    for each in wrong:
        with pytest.raises(CheckpointError) as caught:
            store.load_state_dict(each)
        texts.append(str(caught.value))
    return texts


def test_a_state_of_another_shard_is_refused(gloo: GlooWorld) -> None:
    for texts in gloo.run(2, errors_of_loading):
        assert all("must have tables of" in text for text in texts)


def errors_of_making(worker: Worker) -> list[str]:
    layout, texts = Layout(), []
    for placement in (Placement(7, worker.world + 1), Placement(9, worker.world)):
        with pytest.raises(ValueError, match="must") as caught:
            ShardedStore(
                shard_of(Placement(7, worker.world), worker.rank, layout),
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
