"""The workers of a run: who am I, and what do we add up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pres_dist.errors import ConfigError, PresDistError
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.rendezvous import init_process_group

Result = TypeVar("Result")

_TIMEOUT = timedelta(minutes=10)
"""No collective waits longer for a worker that has stopped answering."""


ALONE = Grid(0, 1, 1)

# Its new name, where torch has it: the old one warns.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)


@dataclass(frozen=True)
class World:
    """One worker among all that train together.

    With one worker every method leaves its argument as it is and no process group
    is needed.

    Attributes:
        grid: who computes what.
        group: all workers; None is the default group.
        memory_group: those that share a memory, for the store alone: it may be used by
            a thread of its own.
    """

    grid: Grid = ALONE
    group: dist.ProcessGroup | None = None
    memory_group: dist.ProcessGroup | None = None

    @property
    def rank(self) -> int:
        return self.grid.rank

    @property
    def size(self) -> int:
        return self.grid.size

    @property
    def leads(self) -> bool:
        """Whether this worker writes the files and speaks to whoever is watching."""
        return self.rank == 0

    @property
    def backend(self) -> str | None:
        """What moves tensors between workers, gloo or nccl; None for a worker alone."""
        return dist.get_backend(self.group) if self.size > 1 else None

    def own_replica(self) -> World:
        """Those that share a memory, as a world of their own."""
        return World(self.grid.own_replica(), self.memory_group, self.memory_group)

    def wait(self) -> None:
        """Until all workers are here; not on a GPU, where it would hold up the host."""
        if self.backend == "gloo":
            dist.barrier(group=self.group)

    def add_up(self, values: Tensor) -> Tensor:
        """Sum over workers, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Maximum over workers, in place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def add_up_parts(self, parts_Ln: Tensor) -> Tensor:
        """Sum of the parts of all workers, one after the other in the order of ranks.

        The order makes the sum the same to the last bit however the parts are spread over
        workers, which an all-reduce does not promise. It moves as many bytes as a ring
        all-reduce does when each worker has one part: every worker sums one share of the
        numbers, and all gather the shares.

        Args:
            parts_Ln: float32, L parts of this worker, as many as of any other.

        Returns:
            [n] the sum, on all workers.
        """
        if self.size == 1:
            return _sum_in_order(parts_Ln)
        num_parts, length = parts_Ln.shape
        share = self._share(length)
        padded = F.pad(parts_Ln, (0, share * self.size - length))
        sent = padded.view(num_parts, self.size, share).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self.group)
        own = _sum_in_order(received.view(-1, share))
        whole = own.new_empty(self.size * share)
        _all_gather(whole, own, group=self.group)
        return whole[:length]

    def bytes_to_add_up(self, parts_Ln: Tensor) -> int:
        """What `add_up_parts` sends from this worker: shares of its parts, then one of the sum."""
        num_parts, length = parts_Ln.shape
        numbers = (num_parts + 1) * self._share(length) * (self.size - 1)
        return numbers * parts_Ln.element_size()

    def _share(self, length: int) -> int:
        """Numbers of so many that each worker sums."""
        return -(-length // self.size)

    def gather(self, value: Any) -> list[Any]:
        """What every worker gave, in the order of ranks; on all workers."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value, group=self.group)
        return gathered

    def last_replica_does(self, what: Callable[[], Result]) -> Result:
        """What the workers of the last replica computed together, on all workers.

        A `PresDistError` that all of that replica raised, all workers raise.
        """
        if self.grid.replicas == 1:
            return what()
        told: list[Any] = [None, None]
        if self.grid.in_last_replica:
            try:
                told[0] = what()
            except PresDistError as error:  # handed on: the others wait to be told
                told[1] = error
        leader = self.grid.last_replica_leader
        dist.broadcast_object_list(told, group_src=leader, group=self.group)
        if told[1] is not None:
            raise told[1]
        result: Any = told[0]
        return result

    def gather_at_leader(self, value: Any) -> list[Any]:
        """What every worker gave, in the order of ranks; empty on all but the leader."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, gathered, group_dst=0, group=self.group)
        return gathered or []

    def leader_first(self, what: Callable[[], Result]) -> Result:
        """Each worker's own call, the leader's before all others.

        For work that the first to do it leaves done for the rest, such as building
        the cache of a built-in stream. What the leader raises, all raise.
        """
        kept: list[Result] = []
        self.leader_does(lambda: kept.append(what()))
        return kept[0] if kept else what()

    def leader_does(self, what: Callable[[], Result]) -> Result:
        """What the leader's call returned, on all workers; what it raised, likewise.

        No worker goes on before the leader is done.
        """
        if self.size == 1:
            return what()
        outcome: list[Any] = [None, None]
        if self.leads:
            try:
                outcome[0] = what()
            except Exception as error:  # handed on: all raise it
                outcome[1] = error
        dist.broadcast_object_list(outcome, group_src=0, group=self.group)
        if outcome[1] is not None:
            raise outcome[1]
        result: Result = outcome[0]
        return result


def _sum_in_order(parts_Ln: Tensor) -> Tensor:
    total = parts_Ln[0].clone()
    for part in parts_Ln[1:]:
        total += part
    return total


@contextmanager
def join_world(
    device: torch.device, grid_of: Callable[[int, int], Grid] | None = None
) -> Iterator[World]:
    """The workers that a launcher started, or a world of one where none did.

    A process group that is there already (Ray Train makes one, and so does an outer
    call) is joined and left as it is.

    Args:
        device: NCCL for a GPU, gloo for a CPU.
        grid_of: the grid of a rank among so many workers; a slice a worker when None.

    Raises:
        ConfigError: torchrun's variables are incomplete, or the grid does not fit.
    """
    grid_of = grid_of or (lambda rank, size: Grid(rank, size, size))
    outer = dist.is_initialized()
    if not outer and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(grid_of(0, 1))
        return
    if not outer:
        _check_torchrun()
        init_process_group("nccl" if device.type == "cuda" else "gloo", _TIMEOUT)
    try:
        yield _world_of(grid_of(dist.get_rank(), dist.get_world_size()))
    finally:
        if not outer:
            dist.destroy_process_group()


def _world_of(grid: Grid) -> World:
    """The world in the default group, with a group for each memory."""
    groups = [
        dist.new_group(grid.memory_ranks(replica), timeout=_TIMEOUT)
        for replica in range(grid.replicas)
    ]
    return World(grid, None, groups[grid.replica])


def _check_torchrun() -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {', '.join(missing)} is not set; "
            "start several workers by torchrun --nproc-per-node=N -m pres_dist train CONFIG"
        )
