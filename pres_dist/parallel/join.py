"""Join the workers that a launcher started; without a launcher, run alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import torch
import torch.distributed as dist

from pres_dist.errors import ConfigError, WorkerLostError
from pres_dist.failpoint import set_identity
from pres_dist.parallel.device import use_device
from pres_dist.parallel.failure_detector import LONGEST_S, FailureDetector, naming_lost_workers
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.parent import end_with_agent
from pres_dist.parallel.shutdown import PROCESS_SHUTDOWN
from pres_dist.parallel.torchrun_store import init_process_group
from pres_dist.parallel.world import World

_START = timedelta(minutes=10)
"""Maximum start-up skew: hosts differ, and torch may load from network storage."""
_TIMEOUT_S = 120.0
_DETECTORS = count()
"""Counter of this process's failure detectors; all workers make theirs in the same order."""


@contextmanager
def join_world(
    device: torch.device,
    grid_of: Callable[[int, int], Grid],
    timeout_s: float = _TIMEOUT_S,
) -> Iterator[World]:
    """Join the workers that a launcher started; without a launcher, yield a world of one.

    An existing process group (from Ray Train or an outer call) is used and left as it is.

    Args:
        device: of this worker, made its current one; NCCL for a GPU, gloo for a CPU.
        grid_of: returns the grid for a rank and a size.
        timeout_s: seconds to wait for a worker that does not answer.

    Raises:
        ConfigError: torchrun's variables are incomplete, or the grid does not fit.
        WorkerLostError: another worker died or does not answer; also raised within the block.
    """
    use_device(device)
    outer = dist.is_initialized()
    if not outer and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        set_identity(rank=0)
        yield World(grid_of(0, 1), shutdown=PROCESS_SHUTDOWN)
        return
    if not outer:
        needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
        if missing := [name for name in needed if name not in os.environ]:
            raise ConfigError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {', '.join(missing)} is not set; "
                "start several workers by torchrun --nproc-per-node=N -m pres_dist train CONFIG"
            )
        end_with_agent()
        on_gpu = device.type != "cpu"
        timeout = timedelta(seconds=timeout_s) if on_gpu else _START
        init_process_group(device, timeout)
    set_identity(rank=dist.get_rank())
    try:
        world = _world_of(grid_of(dist.get_rank(), dist.get_world_size()), timeout_s)
        with naming_lost_workers(world.detector):
            yield world
    except WorkerLostError:
        outer = True  # a group with a hung worker cannot be destroyed; the process can end
        raise
    finally:
        if not outer:
            dist.destroy_process_group()


def _world_of(grid: Grid, timeout_s: float) -> World:
    """Return the world with new process groups: of all workers, and of each memory.

    All workers must create all groups, in the same order, those of other memories included.
    """
    timeout = timedelta(seconds=timeout_s)
    control = dist.new_group(timeout=timeout, backend="gloo")
    # NCCL groups take GPU memory, so the default group serves as that of all workers.
    everyone = control if dist.get_backend() == "gloo" else None
    sharers = [grid.memory_ranks(replica) for replica in range(grid.replicas)]
    groups = [dist.new_group(ranks, timeout=timeout) for ranks in sharers]

    def patient(ranks: list[int] | None = None) -> dist.ProcessGroup:
        """Return a gloo group whose timeout covers the longest single-worker phase."""
        return dist.new_group(ranks, timeout=timedelta(seconds=LONGEST_S), backend="gloo")

    def detector(grid: Grid, group: dist.ProcessGroup, name: str) -> FailureDetector:
        store = dist.distributed_c10d._get_default_store()
        store = dist.PrefixStore(f"detector-{next(_DETECTORS)}-{name}", store)
        return FailureDetector(store, group, grid.rank, grid.size, timeout_s)

    of_memories = [patient(ranks) for ranks in sharers]
    return World(
        grid,
        everyone,
        groups[grid.replica],
        detector(grid, patient(), "all"),
        detector(grid.own_replica(), of_memories[grid.replica], f"memory-{grid.replica}"),
        PROCESS_SHUTDOWN,
        control,
    )
