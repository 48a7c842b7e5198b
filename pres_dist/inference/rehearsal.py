"""Training sweeps over new events that rehearse earlier ones.

Memory must stay causal, so old events cannot be put among new ones as rows of a batch: the
memory of the present has seen them. They are rehearsed where they stand. An epoch sweeps
over the stream in the order of time, from the end of the run's training split; of the
batches before the new events a share, drawn anew in each epoch, is trained on, and the
others only bring the memory along. Then come the new events, all of which are trained on.
So every training step reads memory that has seen the events strictly before it and no
others, brought there by the present weights, as in the run's own training.

Rehearsal mixes the past into what is learned now (Rolnick et al., Experience Replay for
Continual Learning, NeurIPS 2019); there from a buffer of samples, here from the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np

from pres_dist.evaluation.sweep import plan_of, take_in
from pres_dist.inference.live import Report
from pres_dist.step.batches import TemporalBatch
from pres_dist.step.prefetch import Prefetch
from pres_dist.training.schedule import Schedule
from pres_dist.training.setup import Parts
from pres_dist.training.state import OptimizerState, TunedState, load_optimizer
from pres_dist.training.step import TrainingStep
from pres_dist.training.tasks.pretrained import begin_training


class Rehearsal:
    """The sweeps of a training that goes on.

    Args:
        parts: over the events to sweep, with the weights to go on from.
        replay: share of the trained batches that are of earlier events, less than 1.
        old_end: the first new event.
        learned: state of the optimizer, and its steps, to go on from.
    """

    def __init__(
        self, parts: Parts, replay: float, old_end: int, learned: tuple[OptimizerState, int]
    ) -> None:
        self._parts, self._share = parts, replay
        sweep = parts.train_sweep
        self._schedule = Schedule(sweep)
        self._step = TrainingStep(parts, self._schedule, Prefetch(parts.train_step, 0))
        state, self._updates = learned
        load_optimizer(self._step.optimizer, state, "the optimizer that training goes on from")
        first = int(parts.data.kept[0])
        ends = [first + sweep.events_before(number) for number in range(len(sweep) + 1)]
        self._num_old = sum(end <= old_end for end in ends[1:])
        self._sizes = [end - begin for begin, end in pairwise(ends)]
        self._earlier = [min(end, old_end) - min(begin, old_end) for begin, end in pairwise(ends)]
        self.num_replayed = 0
        """Earlier events that were trained on, over all epochs."""

    def epoch(self, number: int, memory: Mapping[str, Any], report: Report) -> float:
        """One sweep, from the memory of its beginning; the mean loss of what was trained on."""
        if self._parts.config.model.has_memory:
            self._parts.store.load_state_dict(memory)
        chosen = self._replayed(number)
        total, num_events, done = 0.0, 0, 0
        for batch, size in enumerate(self._sizes):
            if batch >= self._num_old or batch in chosen:
                total, num_events = total + self._train(batch, number) * size, num_events + size
                self.num_replayed += self._earlier[batch]
            elif self._parts.config.model.has_memory:
                self._pass(batch)
            done += size
            swept = (number - 1) * sum(self._sizes) + done
            report(swept, swept, self._parts.config.training.epochs * sum(self._sizes))
        return total / num_events

    def state(self) -> TunedState:
        """Copies of what a later training goes on from."""
        return TunedState(
            model=deepcopy(dict(self._parts.model.state_dict())),
            optimizer=OptimizerState(**deepcopy(self._step.optimizer.state_dict())),
            updates=self._updates,
        )

    def _replayed(self, epoch: int) -> set[int]:
        """The earlier batches that an epoch trains on: as many as make up the share."""
        num_new, share = len(self._sizes) - self._num_old, self._share
        wanted = min(round(share / (1 - share) * num_new), self._num_old)
        random = np.random.default_rng((self._parts.config.training.seed, epoch))
        return (
            set(random.choice(self._num_old, wanted, replace=False).tolist()) if wanted else set()
        )

    def _train(self, batch: int, epoch: int) -> float:
        """Train on a batch; its mean loss."""
        begin_training(self._parts.model)
        step = self._parts.train_step
        plan = self._step.plan(batch, epoch)
        done = self._step.run(plan, step.read(plan), batch, epoch, self._updates)
        self._updates += len(done.updates)
        return float(np.mean([float(update.loss.total.detach()) for update in done.updates]))

    def _pass(self, number: int) -> None:
        """Bring the memory over a batch that is not trained on."""
        self._parts.model.eval()
        bring_over(self._parts, self._step.batch(number))


def bring_over(parts: Parts, batch: TemporalBatch) -> None:
    """Bring the memory over a batch by the weights as they are; nothing is learned."""
    step = parts.evaluation_step
    take_in(step, batch, plan_of(step, batch, parts.world), parts.world, learn=False)
