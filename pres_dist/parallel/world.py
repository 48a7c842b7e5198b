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
from torch import Tensor, nn

from pres_dist.errors import ConfigError

Result = TypeVar("Result")

_TIMEOUT = timedelta(minutes=10)
"""No collective waits longer for a worker that has stopped answering."""


@dataclass(frozen=True)
class World:
    """One worker among `size`, each computing a time slice of every temporal batch.

    With one worker every method leaves its argument as it is and no process group
    is needed.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this worker writes the files and speaks to whoever is watching."""
        return self.rank == 0

    def slice(self, num_events: int) -> slice:
        """The contiguous part of a temporal batch that this worker computes."""
        return slice(num_events * self.rank // self.size, num_events * (self.rank + 1) // self.size)

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

    def add_up_gradients(self, model: nn.Module, also: Tensor) -> Tensor:
        """Sum gradients and a few scalars over workers, in one collective.

        A worker whose slice did not touch a parameter counts as zero, so that all
        take part alike; a parameter that no worker touched gets a zero gradient.

        Args:
            model: its gradients are replaced by their sums.
            also: [n] float32 to sum besides.

        Returns:
            [n] sums of `also`.
        """
        if self.size == 1:
            return also
        parameters = list(model.parameters())
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.add_up(torch.cat([*(grad.flatten() for grad in grads), also]))
        *parts, sums = flat.split([*(grad.numel() for grad in grads), also.numel()])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return sums

    def gather(self, value: Any) -> list[Any]:
        """What every worker gave, in the order of ranks; on all workers."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value, group=self.group)
        return gathered

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


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """The workers that a launcher started, or a world of one where none did.

    A process group that is there already (Ray Train makes one, and so does an outer
    call) is joined and left as it is.

    Raises:
        ConfigError: torchrun's variables are incomplete.
    """
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {', '.join(missing)} is not set; "
            "start several workers by torchrun --nproc-per-node=N -m pres_dist train CONFIG"
        )
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
