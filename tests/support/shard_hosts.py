"""Memory shards in threads of the process that tests run in, and their workers' side."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

import torch.distributed as dist

from pres_dist.memory.placement import Placement
from pres_dist.memory.server import ServerStore
from pres_dist.memory.shard_group import Rendezvous, join_group
from pres_dist.memory.shard_layout import ShardLayout
from pres_dist.memory.shard_server import Part, ShardServer
from pres_dist.memory.shard_service import serve_shard
from pres_dist.pres.clock import TransitionClock
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.store_rows import Layout

TIMEOUT_S = 40.0
INCARNATIONS = itertools.count(1000)
TIME_UNIT = 60_000.0

MakeServer = Callable[..., ShardServer]


def shard_layout(layout: Layout | ShardLayout) -> ShardLayout:
    if isinstance(layout, ShardLayout):
        return layout
    clock = TransitionClock(layout.clock, TIME_UNIT)
    return ShardLayout(
        layout.dim, layout.num_slots, layout.num_components, clock, rolling=layout.rolling
    )


class SlowServer(ShardServer):
    """Takes its time over every write, more or less of it."""

    def write(self, worker: int, number: int, incarnation: int, part: Part) -> None:
        time.sleep(0.002 * ((worker * 7 + number * 3) % 5))
        super().write(worker, number, incarnation, part)


@dataclass(frozen=True)
class FileRendezvous:
    """A meeting point for one machine, where no name server can hold a test up."""

    path: str
    incarnation: int
    host: str = "127.0.0.1"

    def connect(self, timeout_s: float) -> dist.Store:
        return dist.FileStore(self.path)


class Shards:
    """Shards of a store, for a world of workers; they end when all workers have left."""

    def __init__(
        self,
        world: int,
        layout: Layout | ShardLayout,
        placement: Placement,
        make_server: MakeServer = ShardServer,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.rendezvous = FileRendezvous(f"{self._folder.name}/rendezvous", next(INCARNATIONS))
        self.servers: dict[int, ShardServer] = {}
        self._args = world, layout, placement, make_server, timeout_s
        self.threads = [
            Thread(target=self._host, args=(shard,), daemon=True)
            for shard in range(placement.world)
        ]
        for thread in self.threads:
            thread.start()

    def _host(self, shard: int) -> None:
        world, layout, placement, make_server, timeout_s = self._args
        group = join_group(self.rendezvous, world + shard, world + placement.world, TIMEOUT_S)
        rows = shard_layout(layout)
        num_rows = len(placement.nodes_of(shard))
        self.servers[shard] = make_server(
            rows.make(num_rows), world, self.rendezvous.incarnation, timeout_s
        )
        serve_shard(self.servers[shard], rows, group)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        self._folder.cleanup()


def keep_server_store(
    worker: Worker,
    key: Any,
    rendezvous: Rendezvous,
    placement: Placement,
    layout: Layout | ShardLayout,
    timeout_s: float,
) -> None:
    """Make this worker's side of a store and keep it under a key."""
    size = worker.world + placement.world
    group = join_group(rendezvous, worker.rank, size, TIMEOUT_S)
    worker.kept[key] = ServerStore(
        group, placement, shard_layout(layout), rendezvous.incarnation, timeout_s
    )


def leave(worker: Worker, key: Any) -> None:
    worker.kept.pop(key).leave()


def with_shards(
    gloo: GlooWorld,
    world: int,
    placement: Placement,
    layout: Layout | ShardLayout,
    function: Callable[..., Any],
    *args: Any,
    make_server: MakeServer = ShardServer,
) -> list[Any]:
    """`function(worker, store, *args)` of all workers, on shards that live as long as that."""
    shards = Shards(world, layout, placement, make_server)
    gloo.run(world, keep_server_store, "store", shards.rendezvous, placement, layout, TIMEOUT_S)
    results = gloo.run(world, _with_store, function, args)
    gloo.run(world, leave, "store")
    shards.join()
    return results


def _with_store(worker: Worker, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return function(worker, worker.kept["store"], *args)
