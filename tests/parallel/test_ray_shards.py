"""Memory shards in Ray actors, on a Ray cluster of this machine."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist

from pres_dist.errors import ConfigError, StoreError
from pres_dist.memory.placement import Placement
from pres_dist.memory.server import ServerStore
from pres_dist.memory.shard_layout import ShardLayout
from pres_dist.memory.state import NodeState
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.ray_shards import start_shards
from pres_dist.parallel.world import World
from pres_dist.pres.clock import TransitionClock

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray

TIMEOUT_S = 60.0
LAYOUT = ShardLayout(3, 1, 2, TransitionClock("log", 1.0))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two CPUs, all of which workers take."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray turns authentication on by itself, unless it is told anything about that.
        patch.setenv("RAY_AUTH_MODE", "")
        patch.delenv("RAY_AUTH_MODE")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Actors find this module and the package as the tests do.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 << 20,
            log_to_driver=False,
        )
        assert os.environ["RAY_AUTH_MODE"] == "token"
        try:
            yield
        finally:
            ray.shutdown()


class Worker:
    """A worker of a run, as a Ray actor."""

    def __init__(self, rank: int, size: int, rendezvous: str) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo", store=dist.FileStore(rendezvous, size), rank=rank, world_size=size
        )
        self.world = World(Grid(rank, size, size))

    def start(self, num_nodes: int, num_shards: int) -> None:
        placement = Placement(num_nodes, num_shards)
        self.store, self.close = start_shards(self.world, placement, LAYOUT, TIMEOUT_S)

    def step(self, value: float) -> list[float]:
        """Push a node of this worker's own; the memory of all nodes afterwards."""
        store = self.store
        push_one(store, self.world.rank, value)
        return store.pull(torch.arange(store.num_nodes)).state.memory_UD[:, 0].tolist()

    def kill_shard(self) -> None:
        """Kill a shard and wait until its process is gone: until then it may still answer."""
        before = shard_processes()
        assert len(before) == 2
        ray.kill(self.close.args[1].actors[1])
        end = time.monotonic() + 240
        while shard_processes() == before:
            assert time.monotonic() < end, "the shard is still there"
            time.sleep(0.01)

    def error(self) -> str:
        with pytest.raises(StoreError) as caught:
            self.step(0.0)
        return str(caught.value)

    def end(self) -> None:
        self.close()


def shard_processes() -> set[int]:
    """Ids of processes that host shards."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.name().startswith("ray::ShardActor"):
                found.add(process.pid)
    return found


def push_one(store: ServerStore, node: int, value: float) -> None:
    state = NodeState(
        memory_UD=torch.full((1, 3), value),
        last_update_U=torch.tensor([1]),
        mail_memory_URD=torch.zeros(1, 1, 3),
        mail_event_UR=torch.tensor([[-1]]),
        mail_count_U=torch.tensor([0]),
    )
    store.push(torch.tensor([node]), state, learn=True)


def test_without_ray_running_the_error_says_what_to_do() -> None:
    """Comes first: the cluster of the others stays until the end of the module."""
    with pytest.raises(ConfigError, match="start the run by pres-dist ray"):
        start_shards(World(), Placement(5, 2), LAYOUT, 1.0)


@pytest.mark.usefixtures("cluster")
def test_two_workers_share_shards_until_one_dies(tmp_path: Path) -> None:
    make = ray.remote(num_cpus=1)(Worker)
    workers = [make.remote(rank, 2, str(tmp_path / "rendezvous")) for rank in range(2)]
    ray.get([worker.start.remote(5, 2) for worker in workers], timeout=240)
    for step in range(3):
        values = [worker.step.remote(10.0 * step + rank) for rank, worker in enumerate(workers)]
        expected = [10.0 * step, 10.0 * step + 1, 0.0, 0.0, 0.0]
        assert ray.get(values, timeout=240) == [expected, expected]
    ray.get(workers[0].kill_shard.remote(), timeout=240)
    for text in ray.get([worker.error.remote() for worker in workers], timeout=240):
        assert "does not answer" in text
        assert "last checkpoint" in text
    ray.get([worker.end.remote() for worker in workers], timeout=240)


@pytest.mark.usefixtures("cluster")
def test_shards_end_and_new_ones_start_empty() -> None:
    placement, incarnations = Placement(5, 2), set()
    for _ in range(2):
        store, close = start_shards(World(), placement, LAYOUT, TIMEOUT_S)
        assert not store.pull(torch.arange(5)).state.memory_UD.any()
        push_one(store, 3, 7.0)
        assert store.pull(torch.tensor([3])).state.memory_UD[0, 0] == 7.0
        incarnations.add(store._incarnation)
        close()
    assert len(incarnations) == 2


@pytest.mark.usefixtures("cluster")
def test_shards_that_do_not_fit_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShardLayout, "num_bytes", lambda layout, num_rows: 10**18)
    with pytest.raises(ConfigError, match=r"room for 2 memory shards of {'memory': 1e\+18}"):
        start_shards(World(), Placement(5, 2), LAYOUT, 1.0)
