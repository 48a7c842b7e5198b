"""Measure gloo between local processes (latency and bandwidth), and a sharded store."""

from __future__ import annotations

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pres_dist.memory.placement import Placement
from pres_dist.memory.shard_layout import ShardLayout
from pres_dist.memory.sharded import ShardedStore
from pres_dist.planner.machine import Link, Rates, fit_rates
from pres_dist.pres.statistics import NEGATIVE

_PROCESSES = 3
_SIZES = (0, 1 << 12, 1 << 16, 1 << 20, 1 << 22)
"""Bytes sent to each other process."""
_ROWS = (100, 400, 1600, 4800)
"""Numbers of distinct nodes that a process pulls."""
_NODES = 20_000
_TIMES, _TIMES_OF_BYTES, _TIMES_OF_NOTHING = 15, 50, 300
"""Repetitions of a store's operations, of an all-to-all, and of an empty all-to-all."""
_LIFETIME_S = 120


class Exchange(NamedTuple):
    """Timing of an all-to-all in one process.

    Attributes:
        wall: shortest wall-clock seconds of all repetitions, as on an idle machine.
        cpu: median CPU seconds.
        remote_bytes: bytes sent, and as many received.
    """

    wall: float
    cpu: float
    remote_bytes: float


def measure_links(layout: ShardLayout) -> tuple[Link, Rates]:
    """Measure the link and the store with a few processes on the loopback interface.

    Args:
        layout: layout of the rows that a store moves.

    Returns:
        The link between two processes, and the CPU seconds of a store's operations in a step,
        without those of the link.
    """
    with tempfile.TemporaryDirectory(prefix="pres-dist-plan-") as folder:
        mp.spawn(_process, (folder, layout), _PROCESSES, daemon=True)
        found = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
    two = [Exchange(*row) for row in found["two"]]
    three, verbs = Exchange(*found["three"]), [Exchange(*row) for row in found["verbs"]]
    # This includes the call itself: the difference to two processes is lost in the noise.
    overhead = three.cpu / (_PROCESSES - 1)
    small, large = two[2], two[-1]
    moved = large.remote_bytes - small.remote_bytes
    link = Link(
        latency_s=two[0].wall,
        overhead_s=overhead,
        bytes_per_s=moved / max(large.wall - small.wall, 1e-9),
        cpu_s_per_byte=max(large.cpu - small.cpu, 0.0) / moved,
    )
    exchanges = 3 + (layout.num_components > NEGATIVE)  # ids, rows, push, observation
    messages = exchanges * overhead  # the time of the link is not that of the store
    own = [max(one.cpu - messages - one.remote_bytes * link.cpu_s_per_byte, 1e-9) for one in verbs]
    step_s, node_s = fit_rates([[1.0, rows] for rows in _ROWS], own)
    return link, Rates(step_s=step_s, node_s=node_s)


def _process(rank: int, folder: str, layout: ShardLayout) -> None:
    signal.alarm(_LIFETIME_S)  # ends this process even if its parent is gone
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", _PROCESSES)
    timeout = timedelta(seconds=_LIFETIME_S // 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=_PROCESSES, timeout=timeout)
    pair = dist.new_group([0, 1], timeout=timeout)
    three = _swap(0, None)
    found: dict[str, object] = {"three": three}
    if rank < 2:
        found["two"] = [_swap(size, pair) for size in _SIZES]
        found["verbs"] = _verbs(layout, pair)
    if rank == 0:
        Path(folder, "found.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _timed(exchange: Callable[[], object], remote_bytes: float, times: int) -> Exchange:
    exchange()
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        exchange()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Exchange(min(walls), statistics.median(cpus), remote_bytes)


def _swap(size: int, group: dist.ProcessGroup | None) -> Exchange:
    """Time an all-to-all of `size` bytes per process, with reused buffers as in a store."""
    sent = torch.zeros(dist.get_world_size(group), max(size, 1), dtype=torch.uint8)
    received = torch.zeros_like(sent)
    times = _TIMES_OF_BYTES if size else _TIMES_OF_NOTHING
    return _timed(lambda: dist.all_to_all_single(received, sent, group=group), size, times)


def _verbs(layout: ShardLayout, group: dist.ProcessGroup) -> list[Exchange]:
    """Time a pull, observe and push for each number of rows; 1/2 is written, 1/3 observed."""
    placement = Placement(_NODES, 2)
    shard = layout.make(_NODES // 2)
    store = ShardedStore(shard, placement, group)
    found = []
    for rows in _ROWS:
        nodes_U = torch.randperm(_NODES)[:rows].sort().values
        writes_U, observes_U = torch.arange(rows) % 2 == 0, torch.arange(rows) % 3 == 0

        def verbs(
            nodes_U: torch.Tensor = nodes_U,
            writes_U: torch.Tensor = writes_U,
            observes_U: torch.Tensor = observes_U,
        ) -> None:
            state = store.pull(nodes_U, writes_U, observes_U).state
            seen = state.memory_UD[observes_U], state.last_update_U[observes_U]
            store.observe(nodes_U[observes_U], *seen)
            store.push(nodes_U[writes_U], state.rows(writes_U.nonzero().flatten()), True)

        store.traffic.reset()
        wall, cpu, _ = _timed(verbs, 0.0, _TIMES)
        volumes = vars(store.traffic).values()
        moved = sum(volume.remote_bytes for volume in volumes) / (_TIMES + 1)
        found.append(Exchange(wall, cpu, moved))
    return found
