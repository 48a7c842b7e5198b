"""Training on new events with experience replay of earlier ones.

Memory must stay causal, so old events cannot be mixed into batches of new ones: the current
memory has already seen them. They are replayed at their own position in the stream. An epoch
processes the stream in the order of time, from the end of the run's training split. Of the
batches before the new events, a random share is trained on, drawn again in each epoch; the
others only update the memory. All new events are trained on. So every training step reads
memory that has seen exactly the events before it, computed with the current weights, as in the
run's own training.

Replay mixes earlier events into the training on new ones (Rolnick et al., Experience Replay for
Continual Learning, NeurIPS 2019). The paper draws them from a buffer of samples, this module
from the stream.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import numpy as np

from pres_dist.evaluation.scoring import plan_of, take_in
from pres_dist.inference.live import Report
from pres_dist.memory.state import Tables
from pres_dist.step.batches import TemporalBatch
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import Parts
from pres_dist.training.state import OptimizerState, TunedState, load_optimizer
from pres_dist.training.step import TrainingStep
from pres_dist.training.tasks.pretrained import begin_training


class Rehearsal:
    """Epochs of a continued training.

    Args:
        parts: parts over the events of an epoch, with the weights to start from.
        replay: share of earlier events among the trained batches, less than 1.
        old_end: id of the first new event.
        learned: optimizer state to start from, and its number of steps.
    """

    def __init__(
        self, parts: Parts, replay: float, old_end: int, learned: tuple[OptimizerState, int]
    ) -> None:
        self._parts, self._share = parts, replay
        loader, self._step = parts.train_loader, TrainingStep(parts)
        state, self._step.num_updates = learned
        load_optimizer(self._step.optimizer, state, "the optimizer that training goes on from")
        first = int(parts.data.kept[0])
        ends = [first + loader.events_before(number) for number in range(len(loader) + 1)]
        self._num_old = sum(end <= old_end for end in ends[1:])
        self._sizes = [end - begin for begin, end in pairwise(ends)]
        self._earlier = [min(end, old_end) - min(begin, old_end) for begin, end in pairwise(ends)]
        self.num_replayed = 0
        """Number of earlier events that were trained on, over all epochs."""

    def epoch(self, number: int, memory: Tables, report: Report) -> float:
        """Train for one epoch from the given memory, and return the mean loss of its events."""
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
        """Return copies of the state that a later training starts from."""
        return TunedState(
            model=deepcopy(dict(self._parts.model.state_dict())),
            optimizer=OptimizerState(**deepcopy(self._step.optimizer.state_dict())),
            updates=self._step.num_updates,
        )

    def _replayed(self, epoch: int) -> set[int]:
        """Draw the earlier batches that an epoch trains on, as many as `replay` asks for."""
        num_new, share = len(self._sizes) - self._num_old, self._share
        wanted = min(round(share / (1 - share) * num_new), self._num_old)
        random = np.random.default_rng((self._parts.config.training.seed, epoch))
        return (
            set(random.choice(self._num_old, wanted, replace=False).tolist()) if wanted else set()
        )

    def _train(self, batch: int, epoch: int) -> float:
        """Train on a batch, and return its mean loss."""
        begin_training(self._parts.model)
        done = self._step.run(self._step.prepare(StepIndex(epoch, batch)))
        return float(np.mean([float(update.loss.total.detach()) for update in done.updates]))

    def _pass(self, number: int) -> None:
        """Update the memory with a batch that is not trained on."""
        self._parts.model.eval()
        bring_over(self._parts, self._step.batch(number))


def bring_over(parts: Parts, batch: TemporalBatch) -> None:
    """Update the memory with a batch, without learning anything."""
    pipeline = parts.evaluation_pipeline
    take_in(pipeline, batch, plan_of(pipeline, batch, parts.world), parts.world, learn=False)
