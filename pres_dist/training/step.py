"""Joint step of all workers over a temporal batch: one or several optimizer steps.

Shapes: B events, L parts of a worker, n weights and numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from pres_dist.memory.state import Pulled
from pres_dist.model.tgn import ReceivedMemory, UpdatedMemory
from pres_dist.model.updater import MemoryUpdater
from pres_dist.parallel.grid import share
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.forward import Forward
from pres_dist.step.mail import pending_events
from pres_dist.step.owner import OwnUpdate
from pres_dist.step.pipeline import BatchPipeline
from pres_dist.step.plan import Plan
from pres_dist.training.compiled import compile_update
from pres_dist.training.finite import check_update, check_written
from pres_dist.training.loss import Loss, batch_loss
from pres_dist.training.optimizer import build_optimizer, scale_gradient, trainable
from pres_dist.training.prefetch import PlannedStep, Prefetch, StepIndex, StepInputs
from pres_dist.training.schedule import Schedule
from pres_dist.training.setup import Parts
from pres_dist.training.step_sizes import learning_rate, updates_of_batch
from pres_dist.training.stores import owner_side


@dataclass(frozen=True)
class Update:
    """Result of an optimizer step.

    Attributes:
        loss: loss over all workers' events.
        norm: gradient norm before clipping or normalization.
        rate: learning rate.
    """

    loss: Loss
    norm: Tensor
    rate: float


@dataclass(frozen=True)
class StepResult:
    """Result of the step over a temporal batch.

    Attributes:
        updates: the optimizer steps, in order.
        forwards: forward passes of this worker's parts, by slice and then by optimizer step,
            each with the weights before that optimizer step.
        updated: memory that this worker updated, for each part or for each of its shards.
        pending: for each part, [2B] pending events of each endpoint, within the whole batch.
    """

    updates: Sequence[Update]
    forwards: Sequence[Forward]
    updated: Sequence[UpdatedMemory]
    pending: Sequence[Tensor]


class TrainingStep:
    """Trains temporal batches: `run(prepare(index))`, with the reads prefetched if they may lag.

    Args:
        parts: model, store, data and this worker's place in the grid.

    Attributes:
        schedule: assignment of batches to replicas.
        prefetch: yields prepared steps.
        optimizer: optimizer of the trainable weights.
        num_updates: number of optimizer steps since the start of the run.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts, self._config = parts, parts.config.training
        self.schedule = Schedule(parts.train_loader, parts.world.grid.replicas)
        bound = parts.config.memory.staleness
        self.prefetch = Prefetch(self.prepare, bound, parts.store, parts.clock, parts.device)
        self._owner = owner_side(parts.config, parts.train_pipeline, parts.world)
        self._ahead: PlannedStep | None = None
        self.optimizer = build_optimizer(parts.model, self._config)
        self.num_updates = 0
        self._gradient_bytes = 0
        if self._config.compile:
            assert isinstance(parts.model.updater, MemoryUpdater)
            compile_update(parts.model.updater, parts.device)

    def batch(self, number: int) -> TemporalBatch:
        """Return the temporal batch of this worker's replica in a step, or an empty batch."""
        tables, loader = self.parts.data.tables, self.parts.train_loader
        own = self.schedule.batch_number(number, self.parts.world.grid.replica)
        return loader.batch(tables, 0).part(slice(0)) if own is None else loader.batch(tables, own)

    def prepare(self, index: StepIndex) -> StepInputs:
        """Plan this worker's slices of the batch, and read their state."""
        planned = self._ahead
        if planned is None or planned.index != index:
            planned = self._plan(index)
        with self.parts.clock("pull"):
            if self._owner is None or planned.request is None:
                pulled, own = self.parts.train_pipeline.read(planned.plan), None
            else:
                own = self._owner.plan(planned.request, planned.carried)
                pulled = self._owner.read(own)
        return StepInputs(planned.index, planned.batch, planned.parts, planned.plan, pulled, own)

    def _plan(self, index: StepIndex) -> PlannedStep:
        """Plan this worker's slices of the batch; reads no state, and is no collective."""
        parts, grid, pipeline = self.parts, self.parts.world.grid, self.parts.train_pipeline
        with parts.clock("sample"):
            batch, num_updates = self.batch(index.number), self._updates_in(index)
            slices = []
            for update in range(num_updates):  # consecutive events, divided among the slices
                whole = share(batch.num_events, update, num_updates)
                own = grid.own_slices(whole.stop - whole.start)
                slices.append([slice(whole.start + s.start, whole.start + s.stop) for s in own])
            events = [part for by_update in zip(*slices, strict=True) for part in by_update]
            own_parts = [batch.part(part) for part in events]
            num = parts.task.num_negatives
            negatives = [
                parts.train_negatives.sample(
                    part.src_B, part.dst_B, part.events_B, num, index.epoch, first=grid.epoch * num
                )
                for part in own_parts
            ]
            pres = parts.config.pres
            observes = pres.prediction and pres.components > 1
            plan = pipeline.plan(
                own_parts, negatives, index.epoch, writes=grid.epoch == 0, observes=observes
            )
        with parts.clock("pull"):
            request = None if self._owner is None else self._owner.request(plan, batch)
        return PlannedStep(index, batch, events, plan, request)

    def run(self, inputs: StepInputs) -> StepResult:
        """Run forward, backward, all-reduce and optimizer for each update, then commit memory.

        All updates read the state from before the batch. If there are several, the memory to
        write is computed with the final weights.

        Raises:
            NonFiniteError: loss, gradient or memory is not finite; raised on all workers, with
                memory unchanged.
        """
        parts, world, clock = self.parts, self.parts.world, self.parts.clock
        pipeline, plan, pulled = parts.train_pipeline, inputs.plan, inputs.pulled
        num_parts, num_updates = len(plan.parts), self._updates_in(inputs.index)
        sizes = self.schedule.sizes(inputs.index.number)
        computed: dict[int, Forward] = {}
        updates = []
        for update in range(num_updates):
            shares = [share(size, update, num_updates) for size in sizes]
            num_events = sum(own.stop - own.start for own in shares) * world.grid.epochs
            rows, own = [], self._update_own(inputs)
            for part in range(update, num_parts, num_updates):
                received = None if own is None else own.received[part]
                read = pipeline, plan, pulled, part
                computed[part], row = self.forward_backward(*read, num_events, received)
                rows.append(row)
            if own is not None:
                self._backward_own(own, rows)
            self.prefetch.read_ahead()
            self._ahead, blocks = self._plan_ahead()
            with clock("all_reduce"):
                # A row for each part, and not their sum: workers add all rows in the order of
                # parts, so that the bits do not depend on the number of workers.
                parts_Ln = torch.stack(rows)
                summed_n, got = world.all_reduce_parts(parts_Ln, blocks)
                if self._ahead is not None and blocks is not None:
                    self._ahead = replace(self._ahead, carried=(blocks, got))
                self._gradient_bytes += world.bytes_to_all_reduce(parts_Ln)
                loss, memory = self.take_gradients(summed_n)
            with clock("optimizer"):
                norm = scale_gradient(parts.model, self._config)
                where = partial(self._where, inputs, self.num_updates + update)
                # Before the optimizer: a NaN in the weights could not be undone.
                check_update(loss, norm, memory, where)
                rate = self.learning_rate(inputs.index, update, num_updates)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.optimizer.step()
            updates.append(Update(loss, norm, rate))
        forwards = written = [computed[part] for part in range(num_parts)]
        if num_updates > 1:
            # Slice by slice: the result must not depend on how slices are spread over workers.
            slices = [range(part, part + num_updates) for part in range(0, num_parts, num_updates)]
            written = [
                forward
                for own in slices
                for forward in pipeline.refresh(plan, pulled, own, forwards)
            ]
            check_written(written, world, where)
        self.prefetch.settle()  # no read may see a part of the push
        updated: Sequence[UpdatedMemory]
        if own is None:
            pipeline.commit(plan, pulled, written, learn=True)
            found = [forward.updated for forward in forwards]
            updated = [each for each in found if isinstance(each, UpdatedMemory)]
        else:
            assert self._owner is not None
            self._owner.commit(plan, pulled, own, forwards)
            updated = own.by_shard
        pending_2B = pending_events(inputs.batch, pipeline.sampler.adjacency).view(2, -1)
        pending = [pending_2B[:, events].flatten() for events in inputs.parts]
        self.num_updates += num_updates
        return StepResult(updates, forwards, updated, pending)

    def take_gradient_bytes(self) -> int:
        """Return the bytes that this worker sent to all-reduce gradients since the last call."""
        taken, self._gradient_bytes = self._gradient_bytes, 0
        return taken

    def _plan_ahead(self) -> tuple[PlannedStep | None, Tensor | None]:
        """Plan the next step, with the numbers that tell its owners what this worker requests.

        They travel with the gradients. So a step has one collective less, and its plan, which
        waits for a GPU several times, is made while the GPU still computes.
        """
        index = self.prefetch.upcoming
        if index is None or self._owner is None or self.parts.world.grid.replicas > 1:
            return None, None
        with self.prefetch.beside():
            planned = self._plan(index)
            assert planned.request is not None
            with self.parts.clock("pull"):
                return planned, self._owner.blocks(planned.request)

    def _update_own(self, inputs: StepInputs) -> OwnUpdate | None:
        """Update the memory of this worker's nodes for all slices; None if these do it."""
        if self._owner is None or inputs.own is None:
            return None
        with self._autocast():
            return self._owner.update(inputs.own, inputs.pulled, inputs.plan.now)

    def _backward_own(self, own: OwnUpdate, rows: list[Tensor]) -> None:
        """Add the gradients of each shard's update to the row of one part, in place."""
        assert self._owner is not None
        weights = trainable(self.parts.model)
        self.parts.model.zero_grad(set_to_none=True)
        # A worker has as many shards as parts: the sum of a row does not depend on the worker.
        for row, _ in zip(rows, self._owner.backward(own), strict=False):
            first = 0
            for weight in weights:
                if weight.grad is not None:
                    row[first : first + weight.numel()] += weight.grad.flatten()
                first += weight.numel()
            self.parts.model.zero_grad(set_to_none=True)

    def _autocast(self) -> AbstractContextManager[None]:
        precision = self._config.precision
        return torch.autocast(self.parts.device.type, torch.bfloat16, enabled=precision == "bf16")

    def learning_rate(self, index: StepIndex, update: int = 0, num_updates: int = 1) -> float:
        """Return the learning rate of an optimizer step."""
        done = self._share_done(index, update / num_updates)
        step, replicas = self.num_updates + update, self.parts.world.grid.replicas
        return learning_rate(self._config, step, replicas, done)

    def forward_backward(
        self,
        pipeline: BatchPipeline,
        plan: Plan,
        pulled: Pulled,
        part: int,
        num_events: int | Tensor,
        received: ReceivedMemory | None = None,
    ) -> tuple[Forward, Tensor]:
        """Return a part's forward pass, and its gradients, losses and sum of memory in one row.

        Args:
            pipeline: the pipeline that planned and read the step.
            plan: plan of the step.
            pulled: state that was read for it.
            part: number of the part.
            num_events: events of the optimizer step, over all workers.
            received: as in `BatchPipeline.forward`.
        """
        parts, clock, batch = self.parts, self.parts.clock, plan.parts[part].batch
        with self._autocast():
            forward = pipeline.forward(plan, pulled, part, received)
        with clock("loss"):
            targets = parts.task.targets(batch.events_B)
            weight = parts.config.pres.coherence_weight
            reads = forward.gathered.reads
            density_BC = None
            if reads is not None:
                density_BC = parts.train_negatives.log_density(reads.share_BM, reads.known_BM)
            loss = batch_loss(forward, weight, num_events, targets, density_BC, batch.valid_B)
        with clock("backward"):
            # Each part has its own gradient, see `run`.
            parts.model.zero_grad(set_to_none=True)
            loss.total.backward()
            weights = trainable(parts.model)
            gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
            flat = [gradient.flatten() for gradient in gradients]
            return forward, torch.cat([*flat, loss.values(), forward.sum_of_state()[None]])

    def take_gradients(self, row_n: Tensor) -> tuple[Loss, Tensor]:
        """Store summed gradients in the weights; return the losses and the sum of memory."""
        weights = trainable(self.parts.model)
        sizes = [weight.numel() for weight in weights]
        *gradients, numbers = row_n.split([*sizes, row_n.numel() - sum(sizes)])
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.view_as(weight)
        *losses, memory = numbers
        return Loss(*losses), memory

    def _updates_in(self, index: StepIndex) -> int:
        """Return the number of optimizer steps over a temporal batch."""
        return updates_of_batch(self._config, max(self.schedule.sizes(index.number)))

    def _share_done(self, index: StepIndex, of_batch: float) -> float:
        """Return the finished share of the run, with a share `of_batch` of the step's batch."""
        each = self.schedule.num_steps
        return ((index.epoch - 1) * each + (index.number + of_batch)) / (self._config.epochs * each)

    def _where(self, inputs: StepInputs, update: int) -> str:
        """Describe the optimizer step and the events of the temporal batch for an error message."""
        events_B = inputs.batch.events_B.tolist() or [-1]
        events = f"events {events_B[0]} to {events_B[-1]}"
        name, epoch = self.parts.data.stream.name, inputs.index.epoch
        return f"{name}: epoch {epoch}, step {update}, {events}"
