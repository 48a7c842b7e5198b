"""Continue the training of a run on appended events, with metrics before and after."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, DataError
from pres_dist.inference.live import LiveRun, Report
from pres_dist.inference.new_events import NewEvents
from pres_dist.inference.rehearsal import Rehearsal, bring_over
from pres_dist.inference.relaying import NodeNumbers, relaid
from pres_dist.inference.tuned import Tuned
from pres_dist.inference.versions import RunState
from pres_dist.parallel.grid import evaluation_grid
from pres_dist.parallel.world import World
from pres_dist.records import Metrics
from pres_dist.step.batches import TemporalLoader
from pres_dist.training.checkpoint import BEST, Checkpoint, Checkpoints
from pres_dist.training.setup import Parts, assemble
from pres_dist.training.state import OptimizerState, load_weights

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
        memory = relaid(origin.memory.last(), state.trained, NodeNumbers.of(stream))
    parts = _parts(live.config, state, range(start, cut), how.epochs)
    before = _before(parts, state, range(old_end, cut), last)
    training = Rehearsal(parts, how.replay, old_end, _learned(state, origin))
    losses = [training.epoch(number, memory, report) for number in range(1, how.epochs + 1)]
    numbers, left = NodeNumbers.of(stream), deepcopy(parts.store.state_dict())
    tuned = Tuned(cut, stream.num_events, numbers, training.state(), left)
    after = _measured(parts, last)
    best_by = parts.task.best_by
    taken = how.keep == "always" or after[best_by] > before[best_by]
    replayed = training.num_replayed / how.epochs
    done = TrainedOn(cut - old_end, len(last), replayed, losses, before, after, taken)
    return (_with(state, tuned) if taken else state), done


def _cut(t: np.ndarray, share: float) -> int:
    """Return the size of the first part: at least one event, not all, and no time is split."""
    wanted = max(int(len(t) * share), 1)
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
    parts = assemble(config, replace(state.data, kept=range(swept.stop)), world)
    return replace(parts, data=replace(state.data, kept=swept))


def _batch_size(events: range, t: np.ndarray, wanted: int) -> int:
    """Return the first batch size, from `wanted` on, whose last batch is at least half full.

    An optimizer step over a handful of events moves the weights as far as any other step, in a
    nearly random direction, and here it would be the last step of training.
    """
    for size in range(wanted, 2 * wanted, max(wanted // 50, 1)):
        sweep = TemporalLoader(events, t, size)
        rest = sweep.num_events - sweep.events_before(len(sweep) - 1)
        if len(sweep) == 1 or 2 * rest >= size:
            return size
    return wanted


def _before(parts: Parts, state: RunState, trained: range, last: range) -> Metrics:
    """Load the run's current weights, and return their metrics on the last events."""
    load_weights(parts.model, state.weights, state.checkpoint)
    parts.model.eval()
    if parts.config.model.has_memory:
        parts.store.load_state_dict(state.memory)
        sweep = parts.evaluation_loader(trained, parts.config.evaluation.batch_size)
        for batch in sweep.batches(parts.evaluation_pipeline.tables):
            bring_over(parts, batch)
    return _measured(parts, last)


def _measured(parts: Parts, last: range) -> Metrics:
    """Return metrics of the last events, with the same negatives before and after training."""
    config = parts.config.evaluation
    if config.negatives == "tgb":  # there are none for new events
        config = config.model_copy(update={"negatives": "random"})
    return parts.task.evaluator(parts, config).final(last, parts.world)


def _learned(state: RunState, origin: Checkpoint) -> tuple[OptimizerState, int]:
    """Return the optimizer state of the weights, and its number of steps."""
    if state.tuned is not None:
        return state.tuned.state.optimizer, state.tuned.state.updates
    trained = origin.training_state()
    return trained.optimizer, trained.position.updates


def _with(state: RunState, tuned: Tuned) -> RunState:
    """Return the state with new weights, and the memory at the end of their training."""
    return replace(
        state,
        data=tuned.over(state.data),
        segments=[tuned.end],
        weights=tuned.state.model,
        memory=dict(tuned.memory),
        memory_end=tuned.train_end,
        tuned=tuned,
    )
