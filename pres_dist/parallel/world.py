"""The workers of a run: who am I, and what do we add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pres_dist.errors import PresDistError
from pres_dist.parallel.failure_detector import FailureDetector
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.notice import Notice

Result = TypeVar("Result")

_STEPS_APART = 8
"""Steps between agreements to stop, where none comes with a barrier."""

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
        detector: tells whether the others are at work.
        memory_detector: likewise, of those that share a memory.
        notice: whether the run shall end.
        control: all workers by gloo, also where `group` is of NCCL.
    """

    grid: Grid = ALONE
    group: dist.ProcessGroup | None = None
    memory_group: dist.ProcessGroup | None = None
    detector: FailureDetector | None = None
    memory_detector: FailureDetector | None = None
    notice: Notice = field(default_factory=Notice)
    control: dist.ProcessGroup | None = None

    @property
    def rank(self) -> int:
        return self.grid.rank

    @property
    def size(self) -> int:
        return self.grid.size

    @property
    def is_rank0(self) -> bool:
        """Whether this worker writes the files and speaks to whoever is watching."""
        return self.rank == 0

    @property
    def backend(self) -> str | None:
        """What moves tensors between workers, such as gloo or nccl; None for a worker alone."""
        return dist.get_backend(self.group) if self.size > 1 else None

    def own_replica(self) -> World:
        """Those that share a memory, as a world of their own."""
        return World(
            self.grid.own_replica(), self.memory_group, self.memory_group, self.memory_detector
        )

    def wait(self) -> None:
        """Until all workers are here; not on a GPU, where it would hold up the host.

        Whether one of them shall end comes with it: a sum of one number costs no more
        than a barrier.
        """
        if self.backend == "gloo":
            self.agree()

    def agree(self) -> bool:
        """Whether one of the workers was told to end; all find out at the same time."""
        asked = self.notice.asked
        if self.size > 1:
            found = torch.tensor([float(asked)])
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control or self.group)
            asked = bool(found)
        self.notice.agreed = asked
        return asked

    def shall_end(self, step: int) -> bool:
        """Whether all workers end after this step of the run, as one of them was told to."""
        if self.size == 1 or (self.backend != "gloo" and step % _STEPS_APART == 0):
            return self.agree()
        return self.notice.agreed

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over workers, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Maximum over workers, in place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def all_reduce_parts(self, parts_Ln: Tensor) -> Tensor:
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

    def bytes_to_all_reduce(self, parts_Ln: Tensor) -> int:
        """Return the bytes `all_reduce_parts` sends: shares of parts, then one of the sum."""
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

    def run_on_last_replica(self, what: Callable[[], Result]) -> Result:
        """What the workers of the last replica computed together, on all workers.

        A `PresDistError` that all of that replica raised, all workers raise.
        """
        if self.grid.replicas == 1:
            return what()
        leader = self.grid.last_replica_leader
        told: list[Any] = [None, None]
        if self.grid.in_last_replica:
            try:
                told[0] = self._for_all(what) if self.rank == leader else what()
            except PresDistError as error:  # handed on: the others wait to be told
                told[1] = error
        if self.rank != leader:
            self._wait_for(leader)
        dist.broadcast_object_list(told, group_src=leader, group=self.group)
        if told[1] is not None:
            raise told[1]
        result: Any = told[0]
        return result

    def gather_to_rank0(self, value: Any) -> list[Any]:
        """What every worker gave, in the order of ranks; empty on all but the leader."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.is_rank0 else None
        dist.gather_object(value, gathered, group_dst=0, group=self.group)
        return gathered or []

    def rank0_first(self, what: Callable[[], Result]) -> Result:
        """Each worker's own call, the leader's before all others.

        For work that the first to do it leaves done for the rest, such as building
        the cache of a built-in stream. What the leader raises, all raise.
        """
        kept: list[Result] = []
        self.run_on_rank0(lambda: kept.append(what()))
        return kept[0] if kept else what()

    def run_on_rank0(self, what: Callable[[], Result]) -> Result:
        """What the leader's call returned, on all workers; what it raised, likewise.

        No worker goes on before the leader is done.
        """
        if self.size == 1:
            return what()
        outcome: list[Any] = [None, None]
        if self.is_rank0:
            try:
                outcome[0] = self._for_all(what)
            except Exception as error:  # handed on: all raise it
                outcome[1] = error
        else:
            self._wait_for(0)
        dist.broadcast_object_list(outcome, group_src=0, group=self.group)
        if outcome[1] is not None:
            raise outcome[1]
        result: Result = outcome[0]
        return result

    def _for_all(self, what: Callable[[], Result]) -> Result:
        """A call of this worker that all others wait for, longer than for a collective."""
        if self.detector is None:
            return what()
        with self.detector.working():
            return what()

    def _wait_for(self, worker: int) -> None:
        if self.detector is not None:
            self.detector.wait_for(worker)


def _sum_in_order(parts_Ln: Tensor) -> Tensor:
    total = parts_Ln[0].clone()
    for part in parts_Ln[1:]:
        total += part
    return total
