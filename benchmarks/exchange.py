"""Cost of one pull and one push of the sharded store, over gloo on the loopback interface.

    python benchmarks/exchange.py --workers 2 --rows 2500 --dim 100

Every worker asks for `--rows` random nodes, writes the first of them and observes the
transitions of the last; one thread each. Figures are of worker 0: medians over the steps
after a warm-up. CPU time is that of the whole process, so that it counts gloo's own
threads, and does not count waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.memory.placement import Placement
from pres_dist.memory.sharded import ShardedStore
from pres_dist.memory.state import NodeState
from pres_dist.memory.traffic import Volume
from pres_dist.pres.clock import TransitionClock
from pres_dist.pres.statistics import TransitionStatistics
from pres_dist.report.environment import describe_environment

_WARM_UP = 20
_LIFETIME = 300
"""Seconds after which a worker that was left alone ends itself."""


class Stopwatch:
    """Wall-clock and CPU milliseconds by name, one pair for each call."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def __call__(self, name: str, what: Callable[..., Any], *args: Any, **options: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = what(*args, **options)
        self.calls[name].append(
            (1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu))
        )
        return result

    def summary(self, name: str, steps: int) -> dict[str, float]:
        """Medians over steps of what the calls of one step add up to."""
        calls, each = self.calls[name], len(self.calls[name]) // steps
        sums = [
            [sum(call[kind] for call in calls[s * each : (s + 1) * each]) for s in range(steps)]
            for kind in (0, 1)
        ]
        wall, cpu = (statistics.median(values) for values in sums)
        return {"calls_a_step": each, "ms": round(wall, 3), "cpu_ms": round(cpu, 3)}


def build_store(options: argparse.Namespace, rank: int) -> ShardedStore:
    placement = Placement(options.nodes, options.workers)
    num_rows = len(placement.nodes_of(rank))
    statistics_kept = TransitionStatistics(num_rows, options.dim, 2, TransitionClock("log", 1.0))
    shard = LocalStore(
        num_rows, options.dim, options.slots, statistics_kept if options.pres else None
    )
    return ShardedStore(shard, placement)


def step(store: ShardedStore, nodes_U: Tensor, options: argparse.Namespace, watch: Any) -> None:
    """Pull, observe the last rows, write the first."""
    written, observed = (int(share * options.rows) for share in (options.written, options.observed))
    place_U = torch.arange(options.rows)
    writes_U, observes_U = place_U < written, place_U >= options.rows - observed
    pulled = watch("pull", store.pull, nodes_U, False, writes_U, observes_U)
    columns = vars(pulled.state)
    if options.pres:
        last = {name: column[options.rows - observed :] for name, column in columns.items()}
        nodes_V = nodes_U[options.rows - observed :]
        watch("observe", store.observe, nodes_V, last["memory_UD"], last["last_update_U"])
    rows = NodeState(**{name: column[:written] for name, column in columns.items()})
    watch("push", store.push, nodes_U[:written], rows, True)


def work(rank: int, options: argparse.Namespace, folder: str) -> None:
    """The life of a worker; worker 0 leaves the figures in a file."""
    signal.alarm(_LIFETIME)
    torch.set_num_threads(1)
    rendezvous = dist.FileStore(f"{folder}/rendezvous", options.workers)
    dist.init_process_group("gloo", store=rendezvous, rank=rank, world_size=options.workers)
    store, watch = build_store(options, rank), Stopwatch()
    random = torch.Generator().manual_seed(rank)
    collective = dist.all_to_all_single
    with mock.patch.object(
        dist, "all_to_all_single", lambda *a, **o: watch("collectives", collective, *a, **o)
    ):
        for number in range(_WARM_UP + options.steps):
            nodes_U = torch.randperm(options.nodes, generator=random)[: options.rows].sort().values
            dist.barrier()
            if number == _WARM_UP:
                watch.calls.clear()
                store.traffic.reset()
            watch("step", step, store, nodes_U, options, watch)
    if rank == 0:
        Path(folder, "figures").write_text(json.dumps(figures(store, watch, options)))
    dist.barrier()
    dist.destroy_process_group()


def figures(store: ShardedStore, watch: Stopwatch, options: argparse.Namespace) -> dict[str, Any]:
    times = {name: watch.summary(name, options.steps) for name in list(watch.calls)}
    volumes: dict[str, Volume] = vars(store.traffic)
    traffic = {
        verb: {
            "rows_a_step": (volume.local_rows + volume.remote_rows) / options.steps,
            "bytes_a_row": (volume.local_bytes + volume.remote_bytes)
            / max(volume.local_rows + volume.remote_rows, 1),
        }
        for verb, volume in volumes.items()
    }
    return {
        "options": vars(options),
        "times": times,
        "collective_share_of_cpu": round(
            times["collectives"]["cpu_ms"] / times["step"]["cpu_ms"], 3
        ),
        "traffic": traffic,
        "environment": describe_environment(0),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--nodes", type=int, default=50_000, help="nodes of the stream")
    parser.add_argument("--rows", type=int, default=2_500, help="rows that a worker pulls")
    parser.add_argument("--written", type=float, default=0.5, help="share of them it pushes")
    parser.add_argument("--observed", type=float, default=0.2, help="share of them it observes")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--no-pres", dest="pres", action="store_false", help="no statistics")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as shared:
        mp.spawn(work, (chosen, shared), nprocs=chosen.workers)
        print(json.dumps(json.loads(Path(shared, "figures").read_text()), indent=1))
