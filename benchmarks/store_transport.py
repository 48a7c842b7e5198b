"""Speed of four ways to send rows from memory shards in Ray actors to workers.

    python benchmarks/store_transport.py [--rows 1000 10000] [--rounds 8]

Two workers pull at the same time, each half of its rows from each of two shards:

- objects: actor methods that return numpy arrays, through Ray's object store;
- direct: actor methods with tensor_transport="gloo". Their results go from actor to
  actor, but only by the process that made both: here the driver asks and hands on;
- group: `ServerStore`, point to point in a process group that includes the shards;
- all_to_all: `ShardedStore`, for comparison; half of the rows are the worker's own.

Rows are 200 float32 numbers; those of the two stores 24 bytes longer. The ways take turns.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist

NUM_NODES, DIM = 100_000, 100
NUMBERS = 2 * DIM
WORKERS = SHARDS = 2


class TableShard:
    """Rows behind actor methods."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.table = torch.ones(NUM_NODES // SHARDS, NUMBERS)

    def pull(self, rows: np.ndarray) -> torch.Tensor:
        return self.table.index_select(0, torch.from_numpy(rows.copy()))

    def pull_numpy(self, rows: np.ndarray) -> np.ndarray:
        return self.pull(rows).numpy()


class TableWorker:
    """Pulls from `TableShard`s."""

    def __init__(self, rank: int) -> None:
        torch.set_num_threads(1)
        self.random = np.random.default_rng(rank)

    def pull_objects(self, shards: Sequence[Any], num_rows: int, times: int) -> list[float]:
        import ray

        def pull() -> None:
            share = num_rows // SHARDS
            rows = [self.random.integers(0, NUM_NODES // SHARDS, share) for _ in shards]
            parts = ray.get([s.pull_numpy.remote(r) for s, r in zip(shards, rows, strict=True)])
            together = torch.cat([torch.from_numpy(part) for part in parts])
            assert together.shape == (num_rows, NUMBERS)

        return timed(pull, times)

    def take(self, *parts: torch.Tensor) -> int:
        return len(torch.cat(parts))


class StoreWorker:
    """Pulls from the stores of pres_dist."""

    def __init__(self, rank: int, rendezvous: str) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.set_num_threads(1)
        store = dist.FileStore(rendezvous, WORKERS)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=WORKERS)
        self.rank = rank

    def start(self) -> None:
        from pres_dist.memory.placement import Placement
        from pres_dist.memory.shard_layout import ShardLayout
        from pres_dist.memory.sharded import ShardedStore
        from pres_dist.parallel.grid import Grid
        from pres_dist.parallel.ray_shards import start_shards
        from pres_dist.parallel.world import World

        world = World(Grid(self.rank, WORKERS, WORKERS))
        layout, placement = ShardLayout(DIM, 1), Placement(NUM_NODES, SHARDS)
        served, self.close = start_shards(world, placement, layout, 60.0)
        shard = layout.make(NUM_NODES // WORKERS)
        self.stores = {"group": served, "all_to_all": ShardedStore(shard, placement)}
        self.random = torch.Generator().manual_seed(self.rank)

    def pull(self, way: str, num_rows: int, times: int) -> list[float]:
        store = self.stores[way]

        def pull() -> None:
            start = int(torch.randint(NUM_NODES - num_rows, (1,), generator=self.random))
            pulled = store.pull(torch.arange(start, start + num_rows))
            assert len(pulled.state.memory_UD) == num_rows

        return timed(pull, times)

    def end(self) -> None:
        self.close()


def timed(call: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its descendants: Ray and the actors."""
    here = psutil.Process()
    total = 0.0
    for process in [here, *here.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            spent = process.cpu_times()
            total += spent.user + spent.system
    return total


def ways_of(folder: str) -> tuple[dict[str, Callable[[int, int], list[float]]], list[Any]]:
    """Functions that pull so many rows so many times with both workers; and store workers."""
    import ray
    from ray.experimental.collective import create_collective_group

    direct_shard, direct_worker = (
        ray.remote(num_cpus=0, enable_tensor_transport=True)(kind)
        for kind in (TableShard, TableWorker)
    )
    shards = [ray.remote(num_cpus=0)(TableShard).remote() for _ in range(SHARDS)]
    pullers = [ray.remote(num_cpus=0)(TableWorker).remote(rank) for rank in range(WORKERS)]
    senders = [direct_shard.remote() for _ in range(SHARDS)]
    takers = [direct_worker.remote(rank) for rank in range(WORKERS)]
    create_collective_group([*takers, *senders], backend="gloo")
    rendezvous = os.path.join(folder, "rendezvous")
    stores = [ray.remote(num_cpus=0)(StoreWorker).remote(r, rendezvous) for r in range(WORKERS)]
    ray.get([store.start.remote() for store in stores])
    random = np.random.default_rng(0)

    def both(calls: list[Any]) -> list[float]:
        return [seconds for worker in ray.get(calls) for seconds in worker]

    def objects(num_rows: int, times: int) -> list[float]:
        return both([p.pull_objects.remote(shards, num_rows, times) for p in pullers])

    def direct(num_rows: int, times: int) -> list[float]:
        def pull() -> None:
            share = num_rows // SHARDS
            done = []
            for taker in takers:
                rows = [random.integers(0, NUM_NODES // SHARDS, share) for _ in senders]
                parts = [
                    sender.pull.options(tensor_transport="gloo").remote(share_rows)
                    for sender, share_rows in zip(senders, rows, strict=True)
                ]
                done.append(taker.take.remote(*parts))
            assert ray.get(done) == [num_rows] * WORKERS

        return timed(pull, times)

    def of_store(way: str) -> Callable[[int, int], list[float]]:
        return lambda num_rows, times: both(
            [store.pull.remote(way, num_rows, times) for store in stores]
        )

    ways = {"objects": objects, "direct": direct}
    return ways | {way: of_store(way) for way in ("group", "all_to_all")}, stores


def measure(
    ways: dict[str, Callable[[int, int], list[float]]],
    all_rows: Sequence[int],
    rounds: int,
    times: int,
) -> None:
    print("| way | rows | median ms | slowest tenth ms | CPU ms a pull |")
    print("|---|---|---|---|---|")
    for num_rows in all_rows:
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        cpu = dict.fromkeys(ways, 0.0)
        for turn in range(rounds + 1):
            for way, pull in ways.items():
                before = cpu_seconds()
                found = pull(num_rows, times)
                if turn:  # the first warms up
                    seconds[way] += found
                    cpu[way] += cpu_seconds() - before
        for way, found in seconds.items():
            middle, slow = statistics.median(found), statistics.quantiles(found, n=10)[-1]
            each = cpu[way] / (rounds * times * WORKERS)
            figures = " | ".join(f"{1e3 * figure:.2f}" for figure in (middle, slow, each))
            print(f"| {way} | {num_rows:,} | {figures} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--times", type=int, default=20, help="pulls of a way in a row")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    import ray

    ray.init(
        address="local", include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            ways, stores = ways_of(folder)
            measure(ways, arguments.rows, arguments.rounds, arguments.times)
            ray.get([store.end.remote() for store in stores])
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
