"""Inputs of training steps, and their prefetch while earlier steps compute.

With a bound of k, the state for step s + k is read before step s is written: it lacks
exactly the last k pushes, whatever the speed of the workers. With a bound of 0, each step
is read after the previous step's push.

On a CPU a thread reads. On a GPU the thread that computes also reads, at a fixed point of each
step and on a stream of its own: NCCL runs the collectives of a GPU in the order in which the host
enqueued them, and with two threads this order would differ between workers, which then deadlock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import torch
from torch import Tensor

from pres_dist.memory.state import MemoryStore, Pulled
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.owner import OwnerPlan, OwnerRequest
from pres_dist.step.plan import Plan
from pres_dist.step.stages import StageClock


@dataclass(frozen=True)
class StepIndex:
    """Position of a training step in a run.

    Attributes:
        epoch: number of the epoch, counted from 1.
        number: number of the step within the epoch, counted from 0.
    """

    epoch: int
    number: int


@dataclass(frozen=True)
class PlannedStep:
    """Plan of a training step, before any state is read.

    Attributes:
        index: the step.
        batch: temporal batch of this worker's replica; empty after the end of its segment.
        parts: this worker's events of the batch, by slice and then by optimizer step.
        plan: reads and writes of the parts.
        request: nodes that this worker requests of their owners; None if slices update what
            they read.
        carried: blocks of all workers' requests that were sent and received with the gradients
            of the previous step; None if they were not.
    """

    index: StepIndex
    batch: TemporalBatch
    parts: Sequence[slice]
    plan: Plan
    request: OwnerRequest | None = None
    carried: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class StepInputs:
    """Everything a training step reads, before it computes.

    Attributes:
        index, batch, parts, plan: as in `PlannedStep`.
        pulled: state of the plan's nodes from before the batch, or of those that this worker
            updates.
        own: nodes that this worker updates; None if slices update what they read.
    """

    index: StepIndex
    batch: TemporalBatch
    parts: Sequence[slice]
    plan: Plan
    pulled: Pulled
    own: OwnerPlan | None = None


class Prefetch:
    """Prepares steps in their order, up to `bound` of them ahead of the one that computes.

    If the bound is above 0, a thread does this, or `read_ahead` if the device is a GPU. `settle`
    waits for the reads in flight, so that none sees a partial push.

    Args:
        prepare: plans a step and reads its state.
        bound: number of steps that a read may lag; 0 reads on demand.
        store: the store that is read.
        clock: receives the time spent waiting.
        device: device that computes.
    """

    def __init__(
        self,
        prepare: Callable[[StepIndex], StepInputs],
        bound: int,
        store: MemoryStore,
        clock: StageClock,
        device: torch.device,
    ) -> None:
        self._prepare, self._bound, self._store, self._clock = prepare, bound, store, clock
        self._under_way: deque[Future[StepInputs]] = deque()
        self._side = None if device.type == "cpu" else SideStream(device)
        self._unread: Iterator[StepIndex] = iter(())
        self._read: deque[StepInputs] = deque()
        self._num_due = 0
        self.upcoming: StepIndex | None = None
        """Step after the one that computes, if its state is read on demand."""
        self.staleness: Counter[int] = Counter()
        """Number of steps by the number of pushes that their read lacked."""

    def steps(self, indices: Iterable[StepIndex]) -> Iterator[StepInputs]:
        """Yield the inputs of each step. Push each step before requesting the next."""
        if not self._bound:
            for index, self.upcoming in pairwise(chain(indices, [None])):
                assert index is not None
                inputs = self._prepare(index)
                if self._side is not None:
                    self._side.follow()
                yield self._counted(inputs)
        elif self._side is None:
            yield from self._read_by_thread(indices)
        else:
            yield from self._read_on_stream(indices, self._side)

    def beside(self) -> AbstractContextManager[None]:
        """Launch on a stream of its own what reads no state, such as the plan of `upcoming`."""
        return nullcontext() if self._side is None else self._side()

    def read_ahead(self) -> None:
        """Read the steps that are due on a GPU; call once the kernels of a step are launched."""
        for index in islice(self._unread, self._num_due):
            assert self._side is not None
            with self._side():
                self._read.append(self._prepare(index))
        self._num_due = 0

    def settle(self) -> None:
        """Wait for the reads in flight; call before a push."""
        with self._clock("wait"):
            for read in self._under_way:
                read.result()

    def _read_by_thread(self, indices: Iterable[StepIndex]) -> Iterator[StepInputs]:
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as reader:
            for index in indices:
                self._under_way.append(reader.submit(self._prepare, index))
                if len(self._under_way) > self._bound:
                    yield self._next()
            while self._under_way:
                yield self._next()

    def _read_on_stream(
        self, indices: Iterable[StepIndex], side: SideStream
    ) -> Iterator[StepInputs]:
        self._unread, self._num_due = iter(indices), self._bound
        self._read.clear()
        side.follow()
        self.read_ahead()
        while self._read:
            side.follow()
            self._num_due = 1
            yield self._counted(self._read.popleft())
            assert not self._num_due, "read_ahead must be called in each step"

    def _next(self) -> StepInputs:
        # The read stays in the queue until it is done, so that `settle` waits for it too.
        with self._clock("wait"):
            inputs = self._under_way[0].result()
        self._under_way.popleft()
        return self._counted(inputs)

    def _counted(self, inputs: StepInputs) -> StepInputs:
        self.staleness[self._store.version - inputs.pulled.version] += 1
        return inputs


class SideStream:
    """A stream beside the current one of a GPU.

    Its kernels run after those that the current stream had at the last `follow`, and before those
    that the current stream gets after the block.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._module = torch.get_device_module(device)
        self._stream = self._module.Stream(device)

    def follow(self) -> None:
        """Let later blocks wait for the kernels that the current stream has now."""
        self._followed = self._module.current_stream().record_event()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Launch on this stream within the block."""
        self._stream.wait_event(self._followed)
        with self._module.stream(self._stream):
            yield
        # Memory of this stream that the current one still reads is only freed after its step,
        # and a later block follows that step: the allocator may hand it out again.
        self._module.current_stream().wait_stream(self._stream)
