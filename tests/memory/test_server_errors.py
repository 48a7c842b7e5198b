"""The server store: what goes wrong, and who is told.

Shards live in threads of this process unless they are to die.
"""

from __future__ import annotations

import multiprocessing as mp
import time
from pathlib import Path
from typing import Any

import pytest

from pres_dist.errors import StoreError
from pres_dist.memory.placement import Placement
from pres_dist.memory.server import ServerStore
from pres_dist.memory.shard_group import join_group, open_rendezvous
from pres_dist.memory.shard_service import host_shard
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.shard_hosts import (
    INCARNATIONS,
    TIMEOUT_S,
    FileRendezvous,
    Shards,
    keep_server_store,
    leave,
    shard_layout,
    with_shards,
)
from tests.support.store_rows import Layout, ids, random_state

WORLDS_AND_SHARDS = [(1, 2), (2, 1), (3, 2), (4, 3)]


def errors_of_strangers(worker: Worker, store: ServerStore) -> list[str]:
    texts = []
    for stranger in (7, -1):
        with pytest.raises(StoreError) as caught:
            store.pull(ids(0, stranger, 1))
        texts.append(str(caught.value))
        assert store.pull(ids(0, 1)).version == 0  # nothing of the answers is left over
    return texts


@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_node_outside_the_stream_raises(gloo: GlooWorld, num_shards: int) -> None:
    placement = Placement(7, num_shards)
    (texts,) = with_shards(gloo, 1, placement, Layout(), errors_of_strangers)
    assert all("memory shard" in text for text in texts)
    assert all("out of range" in text for text in texts)


def disagree(worker: Worker, store: ServerStore) -> str:
    state = random_state(Layout(), 1, 1, [5])
    store.push(ids(worker.rank), state, learn=worker.rank == 0)
    with pytest.raises(StoreError) as caught:
        store.pull(ids(0))
    return str(caught.value)


def test_workers_that_write_different_things_are_told(gloo: GlooWorld) -> None:
    for text in with_shards(gloo, 2, Placement(7, 1), Layout(), disagree):
        assert "same writes in the same order" in text


def push_alone(worker: Worker, store: ServerStore) -> str:
    if worker.rank == 1:
        store.leave()
        return ""
    store.push(ids(0), random_state(Layout(), 1, 1, [5]), learn=True)
    with pytest.raises(StoreError) as caught:
        store.pull(ids(0))
    return str(caught.value)


def test_who_waits_for_a_worker_that_has_left_is_told(gloo: GlooWorld) -> None:
    shards = Shards(2, Layout(), Placement(7, 2))
    args = shards.rendezvous, Placement(7, 2), Layout(), TIMEOUT_S
    gloo.run(2, keep_server_store, "left", *args)
    text, _ = gloo.run(2, call, "left", push_alone)
    assert "workers [1] have left" in text
    gloo.run(1, leave, "left")
    shards.join()


def call(worker: Worker, key: str, function: Any) -> Any:
    return function(worker, worker.kept[key])


def wait_in_vain(worker: Worker, store: ServerStore) -> str:
    if worker.rank == 1:
        return ""
    store.push(ids(0), random_state(Layout(), 1, 1, [5]), learn=True)
    with pytest.raises(StoreError) as caught:
        store.pull(ids(0))
    return str(caught.value)


def test_a_wait_ends(gloo: GlooWorld) -> None:
    shards = Shards(2, Layout(), Placement(7, 2), timeout_s=0.2)
    args = shards.rendezvous, Placement(7, 2), Layout(), TIMEOUT_S
    gloo.run(2, keep_server_store, "vain", *args)
    text, _ = gloo.run(2, call, "vain", wait_in_vain)
    assert "workers [1] have not made the next within 0.2 s" in text
    gloo.run(2, leave, "vain")
    shards.join()


def pull_from_all(worker: Worker, store: ServerStore) -> int:
    return store.pull(ids(0, 1)).version


def pull_from_the_dead(worker: Worker, key: str) -> str:
    store = worker.kept[key]
    with pytest.raises(StoreError) as caught:
        store.pull(ids(0, 1))
    with pytest.raises(StoreError):
        store.pull(ids(1))
    assert store.pull(ids(0)).version == 0  # the other shard knows nothing of it
    store.leave()
    return str(caught.value)


def test_a_killed_shard_is_a_clear_error(gloo: GlooWorld, tmp_path: Path) -> None:
    rendezvous = FileRendezvous(str(tmp_path / "rendezvous"), next(INCARNATIONS))
    placement, layout = Placement(7, 2), Layout()
    processes = [
        mp.get_context("forkserver").Process(
            target=host_shard,
            args=(rendezvous, shard_layout(layout), placement, shard, 2, TIMEOUT_S, TIMEOUT_S),
            daemon=True,
        )
        for shard in range(2)
    ]
    for process in processes:
        process.start()
    try:
        gloo.run(2, keep_server_store, "dead", rendezvous, placement, layout, TIMEOUT_S)
        # A worker that has met both shards does not know that they have met each other, without
        # which none of them answers.
        assert gloo.run(2, call, "dead", pull_from_all) == [0, 0]
        processes[1].kill()
        processes[1].join(TIMEOUT_S)
        start = time.monotonic()
        for text in gloo.run(2, pull_from_the_dead, "dead"):
            assert text.startswith("memory shard 1 of 2 does not answer")
            assert "last checkpoint" in text
        assert time.monotonic() - start < TIMEOUT_S
        processes[0].join(TIMEOUT_S)  # all its workers have left
        assert processes[0].exitcode == 0
    finally:
        for process in processes:
            process.kill()
            process.join(TIMEOUT_S)


def test_who_does_not_come_is_missed() -> None:
    _meeting_point, rendezvous = open_rendezvous("127.0.0.1", TIMEOUT_S)
    with pytest.raises(StoreError, match=r"all 2 workers and memory shards must meet.* 0\.5 s"):
        join_group(rendezvous, 0, 2, timeout_s=0.5)
