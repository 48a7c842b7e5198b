"""One worker's distributed context: its rank, process groups and collectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pres_dist.errors import PresDistError
from pres_dist.parallel.failure_detector import FailureDetector
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.shutdown import ShutdownRequest

Result = TypeVar("Result")

_STEPS_APART = 8
"""Steps between agreements to stop, for backends whose all-reduce does not include one."""

ALONE = Grid(0, 1, 1)

# Newer versions of torch renamed it and warn about the old name.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)


@dataclass(frozen=True)
class World:
    """One worker among all that train together.

    With one worker every method returns its argument unchanged and needs no process group.

    Attributes:
        grid: this worker's share of the work.
        group: all workers; None is the default group.
        memory_group: the workers that share a memory. Only the store uses it, because that may
            run in its own thread.
        detector: failure detector of all workers.
        memory_detector: failure detector of the workers that share a memory.
        shutdown: shutdown request.
        control: gloo group of all workers, even if `group` uses NCCL.
    """

    grid: Grid = ALONE
    group: dist.ProcessGroup | None = None
    memory_group: dist.ProcessGroup | None = None
    detector: FailureDetector | None = None
    memory_detector: FailureDetector | None = None
    shutdown: ShutdownRequest = field(default_factory=ShutdownRequest)
    control: dist.ProcessGroup | None = None

    @property
    def rank(self) -> int:
        """Rank of this worker."""
        return self.grid.rank

    @property
    def size(self) -> int:
        """Number of workers."""
        return self.grid.size

    @property
    def is_rank0(self) -> bool:
        """True on rank 0, which writes files and reports progress."""
        return self.rank == 0

    @property
    def backend(self) -> str | None:
        """Backend of collectives, such as gloo or nccl; None for a single worker."""
        return dist.get_backend(self.group) if self.size > 1 else None

    def own_replica(self) -> World:
        """Return the world of the workers that share this worker's memory."""
        return World(
            self.grid.own_replica(), self.memory_group, self.memory_group, self.memory_detector
        )

    def agree(self) -> bool:
        """All-reduce the shutdown flag; return True if any worker was asked to end."""
        asked = self.shutdown.asked
        if self.size > 1:
            found = torch.tensor([float(asked)])
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control or self.group)
            asked = bool(found)
        self.shutdown.agreed = asked
        return asked

    def shall_end(self, step: int) -> bool:
        """Return True if all workers end after this step, because one was asked to end."""
        if self.size == 1 or (self.backend != "gloo" and step % _STEPS_APART == 0):
            return self.agree()
        return self.shutdown.agreed

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum values over workers, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def all_reduce_max(self, values: Tensor) -> Tensor:
        """Take the maximum over workers, in place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def all_reduce_parts(
        self, parts_Ln: Tensor, blocks_WC: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum the parts of all workers in the order of ranks, and exchange blocks of numbers.

        The fixed order makes the sum bit-identical however the parts are spread over workers,
        which an all-reduce does not guarantee. It moves as many bytes as a ring all-reduce if
        each worker has one part: every worker sums one share of the numbers, and an all-gather
        collects the shares.

        With gloo the sum also contains the shutdown flags, as in `agree`.

        Args:
            parts_Ln: float32, the L parts of this worker; L is equal on all workers.
            blocks_WC: int64, a block for each worker, sent in the same all-to-all; None or given
                on all workers.

        Returns:
            [n] the sum, on all workers; and [W, C] the block that each worker sent to this one.
        """
        if blocks_WC is None:
            blocks_WC = torch.empty(self.size, 0, dtype=torch.int64, device=parts_Ln.device)
        if self.size == 1:
            return _sum_in_order([*parts_Ln]), blocks_WC
        num_parts, length = parts_Ln.shape
        share, reads_flag = self._share(length), self.backend == "gloo"
        padded = F.pad(parts_Ln, (0, share * self.size - length))
        if reads_flag:  # from a GPU, reading it would wait
            padded[0, length] = float(self.shutdown.asked)
        # Two floats of a share take the bits of one number of a block.
        sizes = [num_parts * share // 2, blocks_WC.shape[1]]
        sent = blocks_WC.new_empty(self.size, sum(sizes))
        shares, blocks = sent.split(sizes, 1)
        by_worker = padded.view(num_parts, self.size, share).transpose(0, 1)
        shares.view(torch.float32).unflatten(1, (num_parts, share)).copy_(by_worker)
        blocks.copy_(blocks_WC)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self.group)
        shares, blocks = received.split(sizes, 1)
        by_part = shares.view(torch.float32).unflatten(1, (num_parts, share))
        own = _sum_in_order([part for of_worker in by_part for part in of_worker])
        whole = own.new_empty(self.size * share)
        _all_gather(whole, own, group=self.group)
        if reads_flag:
            self.shutdown.agreed = bool(whole[length])
        return whole[:length], blocks

    def bytes_to_all_reduce(self, parts_Ln: Tensor) -> int:
        """Return the bytes that `all_reduce_parts` sends: shares of parts, then of the sum."""
        num_parts, length = parts_Ln.shape
        numbers = (num_parts + 1) * self._share(length) * (self.size - 1)
        return numbers * parts_Ln.element_size()

    def _share(self, length: int) -> int:
        """Return how many of `length` numbers and the shutdown flag each worker sums; even."""
        return -(-(length + 1) // (2 * self.size)) * 2

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all workers in the order of ranks, on all workers."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value, group=self.group)
        return gathered

    def gather_to_rank0(self, value: Any) -> list[Any]:
        """Return the values of all workers in the order of ranks on rank 0, else an empty list."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.is_rank0 else None
        dist.gather_object(value, gathered, group_dst=0, group=self.group)
        return gathered or []

    def rank0_first(self, what: Callable[[], Result]) -> Result:
        """Call a function on every worker, on rank 0 before all others.

        This is for work whose result the first caller leaves for the rest, such as building
        the cache of a built-in stream. An exception on rank 0 is raised on all workers.
        """
        kept: list[Result] = []
        self.run_on_rank0(lambda: kept.append(what()))
        return kept[0] if kept else what()

    def run_on_rank0(self, what: Callable[[], Result]) -> Result:
        """Call a function on rank 0; return its result, or raise its exception, on all workers.

        No worker continues before rank 0 is done.
        """
        if self.size == 1:
            return what()
        return self._broadcast_outcome(what, 0, self.is_rank0, Exception)

    def run_on_last_replica(self, what: Callable[[], Result]) -> Result:
        """Run a function on the workers of the last replica; return its result on all workers.

        If all workers of that replica raise a `PresDistError`, all workers raise it.
        """
        if self.grid.replicas == 1:
            return what()
        leader, runs = self.grid.last_replica_leader, self.grid.in_last_replica
        return self._broadcast_outcome(what, leader, runs, PresDistError)

    def _broadcast_outcome(
        self, what: Callable[[], Result], leader: int, runs: bool, errors: type[Exception]
    ) -> Result:
        """Call a function where `runs` is True; broadcast the leader's result or error."""
        outcome: list[Any] = [None, None]
        if runs:
            # The others may wait longer for the leader than for a collective.
            leads = self.rank == leader
            try:
                with self.detector.working() if self.detector and leads else nullcontext():
                    outcome[0] = what()
            except errors as error:  # raised below, on all workers: they wait for the broadcast
                outcome[1] = error
        if self.rank != leader and self.detector is not None:
            self.detector.wait_for(leader)
        dist.broadcast_object_list(outcome, group_src=leader, group=self.group)
        if outcome[1] is not None:
            raise outcome[1]
        result: Result = outcome[0]
        return result


def _sum_in_order(parts: Sequence[Tensor]) -> Tensor:
    # One by one: `sum` may add in another order, and floats would round otherwise.
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total
