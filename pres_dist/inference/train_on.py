"""Continue the training of a run on appended events, with metrics before and after.

Earlier events are replayed. Memory must stay causal, so they cannot be mixed into batches of new
ones: the current memory has already seen them. They are replayed at their own position in the
stream. An epoch processes the stream in the order of time, from the end of the run's training
split. Of the batches before the new events, a random share is trained on, drawn again in each
epoch; the others only update the memory. All new events are trained on. So every training step
reads memory that has seen exactly the events before it, computed with the current weights, as in
the run's own training.

Replay mixes earlier events into the training on new ones (Rolnick et al., Experience Replay for
Continual Learning, NeurIPS 2019). The paper draws them from a buffer of samples, this module
from the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, DataError
from pres_dist.evaluation.scoring import plan_of, take_in
from pres_dist.inference.live import LiveRun
from pres_dist.inference.new_events import NewEvents
from pres_dist.inference.node_numbering import NodeNumbering, remap_nodes
from pres_dist.inference.tuned import Tuned
from pres_dist.inference.versions import RunState
from pres_dist.inference.walker import Report
from pres_dist.memory.state import Tables
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.world import World
from pres_dist.records import Metrics
from pres_dist.step.batches import TemporalBatch, TemporalLoader
from pres_dist.training.checkpoint import BEST, Checkpoints
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import Parts, assemble
from pres_dist.training.state import OptimizerState, TunedState, load_optimizer, load_weights
from pres_dist.training.step import TrainingStep
from pres_dist.training.tasks.pretrained import begin_training

Keep = Literal["better", "always"]


@dataclass(frozen=True, kw_only=True)
class TrainOn:
    """Settings of a continued training.

    Attributes:
        epochs: number of epochs.
        replay: share of earlier events among the trained batches; less if there are too few.
        test_share: share of the new events, the last ones, that are scored and not trained on.
        keep: `better` keeps the new weights only if they score better than before, `always`
            keeps them in any case.

    Raises:
        ConfigError: a value is out of range.
    """

    epochs: int = 1
    replay: float = 0.5
    test_share: float = 0.2
    keep: Keep = "better"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"--epochs must be at least 1, got {self.epochs}")
        if not 0 <= self.replay < 1:
            raise ConfigError(f"--replay must be in [0, 1), got {self.replay}")
        if not 0 < self.test_share < 1:
            raise ConfigError(f"--test-share must be in (0, 1), got {self.test_share}")


@dataclass(frozen=True)
class TrainedOn:
    """Result of a continued training.

    Attributes:
        num_trained: new events that were trained on.
        num_scored: later new events, which metrics are computed on.
        num_replayed: earlier events that an epoch trained on, averaged over epochs.
        losses: mean loss of the trained events of each epoch.
        before, after: metrics and baselines before and after training, on the same events and
            negatives.
        kept: True if the new weights are kept.
    """

    num_trained: int
    num_scored: int
    num_replayed: float
    losses: Sequence[float]
    before: Metrics
    after: Metrics
    kept: bool


def check_trainable(live: LiveRun, new: NewEvents) -> None:
    """Raise ConfigError for a run, or DataError for events, that cannot be trained on."""
    config = live.config
    if config.task.kind != "link_prediction":
        raise ConfigError(f"--train goes on with link_prediction, this run is {config.task.kind}")
    if config.data.held_out_share:
        raise ConfigError(
            "--train would show nodes that data.held_out_share hides from training, got "
            f"{config.data.held_out_share}"
        )
    if new.chunk.t[0] == new.chunk.t[-1]:
        raise DataError(
            f"--train needs new events of two times at least, the first to be trained on and the "
            f"last to be scored, got {len(new)} at {new.chunk.t[0]}"
        )


def train_on(
    live: LiveRun, state: RunState, how: TrainOn, report: Report
) -> tuple[RunState, TrainedOn]:
    """Train on the events that a state has beyond a run's, and compute metrics before and after.

    Args:
        live: the run.
        state: state of the run with more events, which its memory has not seen.
        how: settings of the training.
        report: progress callback that counts events.

    Returns:
        the new state, or `state` if the new weights are not kept; and the result of training.
    """
    stream, old_end = state.data.stream, state.memory_end
    cut = old_end + _cut(stream.t[old_end:], 1 - how.test_share)
    last = range(cut, stream.num_events)
    origin = Checkpoints(live.run_dir).open(BEST)
    start, memory = old_end, state.memory
    if how.replay:  # start where the checkpoint has the memory
        start = state.data.unit_end or state.data.split.train_end
        memory = remap_nodes(origin.memory.last(), state.trained, NodeNumbering.of(stream))
    parts = _parts(live.config, state, range(start, cut), how.epochs)
    load_weights(parts.model, state.weights, state.checkpoint)
    parts.model.eval()
    if parts.config.model.has_memory:
        parts.store.load_state_dict(state.memory)
        size = parts.config.evaluation.batch_size
        loader = parts.evaluation_loader(range(old_end, cut), size)
        for batch in loader.batches(parts.evaluation_pipeline.tables):
            _advance_memory(parts, batch)
    before = _measured(parts, last)
    if state.tuned is not None:
        learned = state.tuned.state.optimizer, state.tuned.state.updates
    else:
        trained = origin.training_state()
        learned = trained.optimizer, trained.position.updates
    training = Rehearsal(parts, how.replay, old_end, *learned)
    losses = [training.epoch(number, memory, report) for number in range(1, how.epochs + 1)]
    numbers, left = NodeNumbering.of(stream), deepcopy(parts.store.state_dict())
    tuned = Tuned(cut, stream.num_events, numbers, training.state(), left)
    after = _measured(parts, last)
    best_by = parts.task.best_by
    kept = how.keep == "always" or after[best_by] > before[best_by]
    replayed = training.num_replayed / how.epochs
    done = TrainedOn(cut - old_end, len(last), replayed, losses, before, after, kept)
    if not kept:
        return state, done
    # The memory at the end of their training is the one that the new weights start from.
    new = replace(
        state,
        data=tuned.over(state.data),
        segments=[tuned.end],
        weights=tuned.state.model,
        memory=tuned.memory,
        memory_end=tuned.train_end,
        tuned=tuned,
    )
    return new, done


class Rehearsal:
    """Epochs of a continued training.

    Args:
        parts: parts over the events of an epoch, with the weights to start from.
        replay: share of earlier events among the trained batches, less than 1.
        old_end: id of the first new event.
        optimizer: optimizer state to start from.
        updates: its number of steps.
    """

    def __init__(
        self, parts: Parts, replay: float, old_end: int, optimizer: OptimizerState, updates: int
    ) -> None:
        self._parts, self._share = parts, replay
        loader, self._step = parts.train_loader, TrainingStep(parts)
        self._step.num_updates = updates
        load_optimizer(self._step.optimizer, optimizer, "the optimizer that training goes on from")
        first = int(parts.data.kept[0])
        ends = [first + loader.events_before(number) for number in range(len(loader) + 1)]
        self._num_old = sum(end <= old_end for end in ends[1:])
        self._sizes = [end - begin for begin, end in pairwise(ends)]
        self._earlier = [min(end, old_end) - min(begin, old_end) for begin, end in pairwise(ends)]
        self.num_replayed = 0
        """Number of earlier events that were trained on, over all epochs."""

    def epoch(self, number: int, memory: Tables, report: Report) -> float:
        """Train for one epoch from the given memory, and return the mean loss of its events."""
        parts, has_memory = self._parts, self._parts.config.model.has_memory
        if has_memory:
            parts.store.load_state_dict(memory)
        num_new = len(self._sizes) - self._num_old
        wanted = min(round(self._share / (1 - self._share) * num_new), self._num_old)
        random = np.random.default_rng((parts.config.training.seed, number))
        chosen = set(random.choice(self._num_old, wanted, replace=False)) if wanted else set()
        total, num_events, done = 0.0, 0, 0
        for batch, size in enumerate(self._sizes):
            if batch >= self._num_old or batch in chosen:
                begin_training(parts.model)
                done_step = self._step.run(self._step.prepare(StepIndex(number, batch)))
                losses = [float(update.loss.total.detach()) for update in done_step.updates]
                total, num_events = total + float(np.mean(losses)) * size, num_events + size
                self.num_replayed += self._earlier[batch]
            elif has_memory:  # only pass over the batch
                parts.model.eval()
                _advance_memory(parts, self._step.batch(batch))
            done += size
            swept = (number - 1) * sum(self._sizes) + done
            report(swept, swept, parts.config.training.epochs * sum(self._sizes))
        return total / num_events

    def state(self) -> TunedState:
        """Return copies of the state that a later training starts from."""
        return TunedState(
            model=deepcopy(dict(self._parts.model.state_dict())),
            optimizer=OptimizerState(**deepcopy(self._step.optimizer.state_dict())),
            updates=self._step.num_updates,
        )


def _advance_memory(parts: Parts, batch: TemporalBatch) -> None:
    """Update the memory with a batch, without learning anything."""
    pipeline = parts.evaluation_pipeline
    take_in(pipeline, batch, plan_of(pipeline, batch, parts.world), parts.world, learn=False)


def _cut(t: np.ndarray, share: float) -> int:
    """Return the size of the first part: at least one event, not all, and no time is split."""
    wanted = min(max(int(len(t) * share), 1), len(t) - 1)
    cut = int(np.searchsorted(t, t[wanted], side="left"))
    return cut or int(np.searchsorted(t, t[0], side="right"))


def _parts(config: RunConfig, state: RunState, swept: range, epochs: int) -> Parts:
    """Return the parts of one worker over the events of an epoch.

    Memory staleness is 0, whatever the run's configuration. Negatives are drawn from the
    destinations of all events before the end of `swept`.
    """
    size = _batch_size(swept, state.data.stream.t, config.training.events_per_batch)
    training = config.training.model_copy(update={"epochs": epochs, "batch_size": size})
    memory = config.memory.model_copy(update={"staleness": 0})
    config = config.model_copy(update={"training": training, "memory": memory})
    world = World(evaluation_grid(config.parallel, 0, 1))
    # Assembled over all earlier events, for their destinations; trained on those of `swept`.
    parts = assemble(config, replace(state.data, kept=range(swept.stop)), world)
    return replace(parts, data=replace(state.data, kept=swept))


def _batch_size(events: range, t: np.ndarray, wanted: int) -> int:
    """Return the first batch size, from `wanted` on, whose last batch is at least half full.

    An optimizer step over a handful of events moves the weights as far as any other step, in a
    nearly random direction, and here it would be the last step of training.
    """
    for size in range(wanted, 2 * wanted, max(wanted // 50, 1)):
        loader = TemporalLoader(events, t, size)
        rest = loader.num_events - loader.events_before(len(loader) - 1)
        if len(loader) == 1 or 2 * rest >= size:
            return size
    return wanted


def _measured(parts: Parts, last: range) -> Metrics:
    """Return metrics of the last events, with the same negatives before and after training."""
    config = parts.config.evaluation
    if config.negatives == "tgb":  # there are none for new events
        config = config.model_copy(update={"negatives": "random"})
    return parts.task.evaluator(parts, config).final(last, parts.world)
