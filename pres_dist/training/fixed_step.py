"""A training step as a function of tensors, with fixed shapes and without reading a value.

It computes the same as `TrainingStep` for one worker and one optimizer step over a temporal batch:
with the same modules, over padded events and nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.model.shapes import Room, fixed_shapes
from pres_dist.model.tgn import UpdatedMemory
from pres_dist.step.fixed import write_masked
from pres_dist.step.mail import pending_events
from pres_dist.step.stages import StageClock
from pres_dist.training.loss import Loss
from pres_dist.training.optimizer import scale_gradient
from pres_dist.training.step import TrainingStep, Update
from pres_dist.training.totals import part_sums


@dataclass(frozen=True)
class FixedStep:
    """Trains one temporal batch, and changes nothing if it does not fit or is not finite.

    Attributes:
        exact: the step whose model, optimizer and store it shares.
        num_events: places for events.
        num_nodes: places for distinct nodes.
    """

    exact: TrainingStep
    num_events: int
    num_nodes: int

    def __call__(self, given: Tensor, ok: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Train the batch if `ok`; set `ok` to False if it does not fit or is not finite.

        Args:
            given: float64 [4]: position of the first event among the training events, position
                after the last, epoch, and learning rate.
            ok: bool scalar.

        Returns:
            the results of `part_sums`, which are 0 unless `ok`; float32 [5] losses and gradient
            norm; and int64 [2]: `ok`, and the number of distinct nodes.
        """
        exact, parts = self.exact, self.exact.parts
        store, negatives = parts.store, parts.train_negatives
        assert isinstance(store, LocalStore)
        # The clock measures Python code, which a replay does not run.
        room, clock = Room(self.num_nodes, store.num_nodes), StageClock()
        pipeline = replace(parts.train_pipeline, room=room, clock=clock)
        first, stop, epoch = given[:3].long().unbind()
        with fixed_shapes():
            batch = parts.train_loader.padded(parts.data.tables, first, stop, self.num_events)
            num = parts.task.num_negatives
            ends = batch.src_B, batch.dst_B, batch.events_B
            negatives_BM = negatives.sample(*ends, num, epoch)
            plan = pipeline.plan([batch], [negatives_BM], epoch, observes=store.observes)
            pulled = pipeline.read(plan)
            forward, row = exact.forward_backward(pipeline, plan, pulled, 0, stop - first)
            loss, memory = exact.take_gradients(row)
            losses = loss.values()
            norm = scale_gradient(parts.model, parts.config.training)
            num_nodes = plan.parts[0].gathered.num_nodes
            assert num_nodes is not None
            assert batch.valid_B is not None
            fits = num_nodes <= self.num_nodes
            ok.logical_and_(fits & torch.isfinite(loss.total + norm + memory))
            row.masked_fill_(~ok, 0.0)  # the gradients are views of it
            with _guarded(exact.optimizer, given[3].float(), (~ok).float()):
                exact.optimizer.step()
            write_masked(store, plan, pulled, forward, ok)
            pending_2B = pending_events(batch, pipeline.sampler.adjacency)
            pending_2B = pending_2B * batch.valid_B.repeat(2)
            update, updated = Update(Loss(*losses), norm, rate=0.0), forward.updated
            assert isinstance(updated, UpdatedMemory)
            sums, most = part_sums(update, updated, pending_2B, stop - first)
        losses = torch.cat([losses, norm[None]])
        flags = torch.stack([ok.long(), num_nodes])
        return torch.where(ok, sums, 0.0), torch.where(ok, most, 0), losses, flags


@contextmanager
def _guarded(optimizer: torch.optim.Optimizer, rate: Tensor, found_inf: Tensor) -> Iterator[None]:
    """Let the optimizer's steps in the block read learning rate and `found_inf` from tensors."""
    groups = optimizer.param_groups
    before = [dict(group) for group in groups]
    # Torch's AdamW refuses to be captured without `capturable`, and warns of it elsewhere.
    capturing = rate.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    for group in groups:
        group.update(lr=rate, capturable=capturing)
    optimizer.found_inf = found_inf  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]
        for group, own in zip(groups, before, strict=True):
            group.clear()
            group.update(own)
