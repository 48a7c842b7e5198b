"""Joint step of all workers over a temporal batch: one or several optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pres_dist.memory.state import Pulled
from pres_dist.model.updater import MemoryUpdater
from pres_dist.parallel.grid import share
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.forward import Forward
from pres_dist.step.mail import BatchMail, pending_events
from pres_dist.step.plan import Plan
from pres_dist.step.prefetch import Prefetch
from pres_dist.training.compiled import compile_update
from pres_dist.training.finite import Where, check_update, check_written
from pres_dist.training.loss import Loss, batch_loss
from pres_dist.training.optimizer import build_optimizer, gradient_norm, trainable
from pres_dist.training.schedule import Schedule
from pres_dist.training.setup import Parts
from pres_dist.training.step_sizes import growth_of_steps, learning_rate, updates_of_batch


@dataclass(frozen=True)
class Update:
    """Result of an optimizer step.

    Attributes:
        loss: loss over all workers' events.
        norm: gradient norm before clipping.
        rate: learning rate.
    """

    loss: Loss
    norm: Tensor
    rate: float


@dataclass(frozen=True)
class Stepped:
    """Result of the step over a temporal batch.

    Attributes:
        updates: the optimizer steps, in order.
        forwards: forward passes of this worker's parts, by slice and then by optimizer step,
            each with the weights before that optimizer step.
        pending: for each part, [2B] pending events of each endpoint, within the whole batch.
    """

    updates: Sequence[Update]
    forwards: Sequence[Forward]
    pending: Sequence[Tensor]


class TrainingStep:
    """Plans and runs the steps of an epoch.

    Args:
        parts: model, store, data and this worker's place in the grid.
        schedule: assignment of batches to replicas.
        prefetch: reads under way, which must finish before a push.
    """

    def __init__(self, parts: Parts, schedule: Schedule, prefetch: Prefetch) -> None:
        self._parts, self._schedule, self._prefetch = parts, schedule, prefetch
        self._gradient_bytes = 0
        self._config = parts.config.training
        self._sweep = parts.train_sweep
        self.optimizer = build_optimizer(parts.model, self._config)
        if self._config.compile:
            assert isinstance(parts.model.updater, MemoryUpdater)
            compile_update(parts.model.updater, parts.device)

    def batch(self, number: int) -> TemporalBatch:
        """Return the temporal batch of this worker's replica in a step, or an empty batch."""
        tables, own = self._parts.data.tables, self._own_batch(number)
        if own is None:
            return self._sweep.batch(tables, 0).part(slice(0))
        return self._sweep.batch(tables, own)

    def plan(self, number: int, epoch: int) -> Plan:
        """Plan the reads and writes of this worker's slices of the batch."""
        parts, grid = self._parts, self._parts.world.grid
        whole = self.batch(number)
        own = [
            whole.part(events)
            for events in self._own_parts(number, self._num_updates(number, epoch))
        ]
        num = parts.task.num_negatives
        negatives = [
            parts.train_negatives.sample(
                one.src_B, one.dst_B, one.events_B, num, epoch, first=grid.epoch * num
            )
            for one in own
        ]
        batch = self._own_batch(number)
        first = None if batch is None else self._sweep.first_event(batch)
        return parts.train_step.plan(
            own, negatives, epoch, first, writes=grid.epoch == 0, observes=True
        )

    def run(self, plan: Plan, pulled: Pulled, number: int, epoch: int, updates: int) -> Stepped:
        """Run forward, backward, all-reduce and optimizer for each update, then commit memory.

        All updates read the state from before the batch. If there are several, the memory to
        write is computed with the final weights.

        Args:
            plan, pulled: the plan of the step, and the state read for it.
            number: number of the step within the epoch.
            epoch: number of the epoch, counted from 1.
            updates: number of optimizer steps before.

        Raises:
            NonFiniteError: loss, gradient or memory is not finite; raised on all workers, with
                memory unchanged.
        """
        parts, num_updates = self._parts, self._num_updates(number, epoch)
        grown = growth_of_steps(self._config, max(self._schedule.sizes(number)), num_updates)
        forwards: list[Forward | None] = [None] * len(plan.parts)
        done = []
        for update in range(num_updates):
            own = range(update, len(plan.parts), num_updates)
            num_events = self._events_in(number, update, num_updates)
            rows = []
            for part in own:
                forwards[part], row = self._backward(plan, pulled, part, num_events)
                rows.append(row)
            done_share = self._done(number + update / num_updates, epoch)
            rate = grown * self._rate(updates + update, done_share)
            where = partial(self._where, epoch, updates + update, number)
            done.append(self._update(rows, rate, where))
        computed = written = [forward for forward in forwards if forward is not None]
        if num_updates > 1:
            written = self._refreshed(plan, pulled, computed, num_updates)
            check_written(written, parts.world, where)
        self._prefetch.settle()
        mails = parts.train_step.commit(plan, pulled, written, learn=True)
        return Stepped(done, computed, self._pending(number, num_updates, mails))

    def take_gradient_bytes(self) -> int:
        """Return the bytes that this worker sent to all-reduce gradients since the last call."""
        taken, self._gradient_bytes = self._gradient_bytes, 0
        return taken

    def _own_batch(self, number: int) -> int | None:
        """Return the number of this replica's temporal batch in a step; None if none is left."""
        return self._schedule.batch_number(number, self._parts.world.grid.replica)

    def _refreshed(
        self, plan: Plan, pulled: Pulled, forwards: Sequence[Forward], num_updates: int
    ) -> list[Forward]:
        """Compute the memory to write with the final weights.

        This is done slice by slice, so that the result does not depend on how slices are
        distributed over workers.
        """
        step, each = self._parts.train_step, range(num_updates)
        slices = [
            [first + update for update in each] for first in range(0, len(forwards), num_updates)
        ]
        return [one for parts in slices for one in step.refresh(plan, pulled, parts, forwards)]

    def _done(self, batches: float, epoch: int) -> float:
        """Return the finished share of the run after `batches` temporal batches of an epoch."""
        each = self._schedule.num_steps
        return ((epoch - 1) * each + batches) / (self._config.epochs * each)

    def _rate(self, updates: int, done: float) -> float:
        """Return the learning rate after `updates` optimizer steps at share `done` of the run."""
        return learning_rate(self._config, updates, self._parts.world.grid.replicas, done)

    def _num_updates(self, number: int, epoch: int) -> int:
        """Return the number of optimizer steps over a temporal batch."""
        events = max(self._schedule.sizes(number))
        return updates_of_batch(self._config, events, self._done(number, epoch))

    def _own_parts(self, number: int, num_updates: int) -> list[slice]:
        """Return this worker's events of the batch, by slice and then by optimizer step.

        An optimizer step takes consecutive events, which are divided among the slices.
        """
        grid = self._parts.world.grid
        num_events = self.batch(number).num_events
        by_update = []
        for update in range(num_updates):
            whole = share(num_events, update, num_updates)
            slices = grid.own_slices(whole.stop - whole.start)
            by_update.append(
                [slice(whole.start + own.start, whole.start + own.stop) for own in slices]
            )
        return [part for parts in zip(*by_update, strict=True) for part in parts]

    def _events_in(self, number: int, update: int, num_updates: int) -> int:
        """Return the number of events of an optimizer step, over all replicas and groups."""
        sizes = self._schedule.sizes(number)
        shares = (share(size, update, num_updates) for size in sizes)
        return sum(own.stop - own.start for own in shares) * self._parts.world.grid.epochs

    def _update(self, rows: Sequence[Tensor], rate: float, where: Where) -> Update:
        """All-reduce the gradients of all parts of all workers, and update the weights."""
        parts, clock, world = self._parts, self._parts.clock, self._parts.world
        with clock("wait"):
            world.host_barrier()
        with clock("all_reduce"):
            parts_Ln = torch.stack(list(rows))
            summed = world.all_reduce_parts(parts_Ln)
            self._gradient_bytes += world.bytes_to_all_reduce(parts_Ln)
            *losses, memory = _take_gradients(parts.model, summed)
            loss = Loss(*losses)
        with clock("optimizer"):
            norm = gradient_norm(parts.model, self._config.gradient_clip)
            check_update(loss, norm, memory, where)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        return Update(loss, norm, rate)

    def _backward(
        self, plan: Plan, pulled: Pulled, part: int, num_events: int
    ) -> tuple[Forward, Tensor]:
        """Run one part forward and backward; put gradient, losses and sum of memory in one row."""
        parts, clock = self._parts, self._parts.clock
        with torch.autocast(
            parts.device.type, torch.bfloat16, enabled=self._config.precision == "bf16"
        ):
            forward = parts.train_step.forward(plan, pulled, part)
        with clock("loss"):
            targets = parts.task.targets(plan.parts[part].batch.events_B)
            weight = parts.config.pres.coherence_weight
            loss = batch_loss(forward, weight, num_events, targets, self._config.loss)
        with clock("backward"):
            parts.model.zero_grad(set_to_none=True)
            loss.total.backward()
            return forward, _gradient_row(parts.model, loss, forward.sum_of_state())

    def _where(self, epoch: int, update: int, number: int) -> str:
        """Describe the optimizer step and the events of the temporal batch for an error message."""
        events_B = self.batch(number).events_B.tolist() or [-1]
        events = f"events {events_B[0]} to {events_B[-1]}"
        return f"{self._parts.data.stream.name}: epoch {epoch}, step {update}, {events}"

    def _pending(self, number: int, num_updates: int, mails: Sequence[BatchMail]) -> list[Tensor]:
        """Return each part's pending events, counted over the whole batch rather than per part."""
        if self._parts.world.grid.slices == 1 and num_updates == 1:
            return [mail.pending_2B for mail in mails]
        whole = self.batch(number)
        pending_2B = pending_events(whole.src_B, whole.dst_B).view(2, -1)
        return [pending_2B[:, own].flatten() for own in self._own_parts(number, num_updates)]


def _gradient_row(model: nn.Module, loss: Loss, memory: Tensor) -> Tensor:
    """Return [n + 5]: gradients (zero for parameters without one), losses, sum of memory."""
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trainable(model)]
    return torch.cat([*(grad.flatten() for grad in grads), loss.values(), memory[None]])


def _take_gradients(model: nn.Module, row: Tensor) -> Tensor:
    """Store summed gradients in the parameters; return the [5] numbers that follow them."""
    parameters = trainable(model)
    sizes = [p.numel() for p in parameters]
    *parts, rest = row.split([*sizes, row.numel() - sum(sizes)])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)
    return rest
