"""A few worker processes with process groups of gloo over the loopback interface.

The processes are started once and then run one function after the other, each in a
group of the first W of them::

    with GlooWorld(4, tmp_path) as world:
        ranks = world.run(3, rank_of)   # [0, 1, 2]

where `rank_of(worker)` is a function of a module. Nothing outlives the world: workers
end when it is closed, when the process that started them dies, when one of them raises,
and after LIFETIME_S at the latest.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

LIFETIME_S = 900
COLLECTIVE_S = 60
CALL_S = 180


class WorkerError(AssertionError):
    """A worker raised, died or did not answer in time."""


@dataclass
class Worker:
    """State of a worker process for the functions that run in it.

    Attributes:
        groups: process groups by the number of their workers.
        group: the group of the present call.
        second_group: another of the same workers, for what runs beside it on a thread.
        kept: objects that later calls find again.
    """

    rank: int
    groups: dict[int, dist.ProcessGroup]
    group: dist.ProcessGroup
    second_group: dist.ProcessGroup
    kept: dict[Any, Any] = field(default_factory=dict)

    @property
    def world(self) -> int:
        return dist.get_world_size(self.group)


class GlooWorld:
    """Worker processes that run functions together.

    Args:
        size: processes; groups of 1 to this many are at hand.
        folder: where they find each other, by a file.
    """

    def __init__(self, size: int, folder: Path) -> None:
        self.size, self._folder = size, folder
        self._starts = 0
        self._processes: list[mp.process.BaseProcess] = []
        self._connections: list[Connection] = []

    def __enter__(self) -> GlooWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, world: int, function: Callable[..., Any], *args: Any) -> list[Any]:
        """`function(worker, *args)` in the first `world` processes; results by rank.

        After an error the processes are ended, for they may wait for one another, and
        the next run starts new ones.

        Raises:
            WorkerError: with the traceback of a worker that raised.
        """
        if not self._processes:
            self._start()
        call = pickle.dumps((world, function, args))
        try:
            for connection in self._connections[:world]:
                connection.send_bytes(call)
            return self._collect(world)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join(10)
        for connection in self._connections:
            connection.close()
        self._processes, self._connections = [], []

    def _start(self) -> None:
        self._starts += 1
        rendezvous = self._folder / f"rendezvous-{self._starts}"
        context = mp.get_context("forkserver")
        # Torch is imported once, before the fork, and not by every worker.
        context.set_forkserver_preload(["torch.distributed"])
        for rank in range(self.size):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, self.size, str(rendezvous), there), daemon=True
            )
            process.start()
            there.close()
            self._processes.append(process)
            self._connections.append(here)

    def _collect(self, world: int) -> list[Any]:
        waiting: dict[Any, int] = {c: rank for rank, c in enumerate(self._connections[:world])}
        results: list[Any] = [None] * world
        end = time.monotonic() + CALL_S
        while waiting:
            ready = wait(list(waiting), max(0.0, end - time.monotonic()))
            if not ready:
                raise WorkerError(f"no answer from workers {sorted(waiting.values())}")
            for connection in ready:
                rank = waiting.pop(connection)
                results[rank] = self._receive(rank)
        return results

    def _receive(self, rank: int) -> Any:
        try:
            good, answer = pickle.loads(self._connections[rank].recv_bytes())
        except EOFError:
            raise WorkerError(f"worker {rank} died") from None
        if not good:
            raise WorkerError(f"worker {rank} raised:\n{answer}")
        return answer


def _serve(rank: int, size: int, rendezvous: str, connection: Connection) -> None:
    """The life of a worker process."""
    signal.alarm(LIFETIME_S)
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(rendezvous, size)
    limit = timedelta(seconds=COLLECTIVE_S)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
    groups = {world: dist.new_group(list(range(world))) for world in range(1, size + 1)}
    second = {world: dist.new_group(list(range(world))) for world in range(1, size + 1)}
    kept: dict[Any, Any] = {}
    while True:
        try:
            world, function, args = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        worker = Worker(rank, groups, groups[world], second[world], kept)
        connection.send_bytes(_answer(worker, function, args))


def _answer(worker: Worker, function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((True, function(worker, *args)))
    except BaseException:  # outcomes of pytest are no Exception
        return pickle.dumps((False, traceback.format_exc()))
