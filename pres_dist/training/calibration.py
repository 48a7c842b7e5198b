"""Calibrate `training.batch_size: auto`: find the largest temporal batch that keeps accuracy.

Large batches lose accuracy because events are pending in them (temporal discontinuity: Su et
al., ICLR 2024, section 4) and because they allow fewer optimizer steps. The loss can only be
measured by training: short trials, on the first events of the training split. The discontinuity
profile guides the search.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, NonFiniteError
from pres_dist.evaluation.ranking_negatives import check_negatives
from pres_dist.events.builtin import load_stream
from pres_dist.events.discontinuity import Discontinuity, discontinuity_profile
from pres_dist.events.split import as_index
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import MetricsSink
from pres_dist.report.progress import Progress
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.setup import Data, assemble, load_data, split_of
from pres_dist.training.state import NONE_YET
from pres_dist.training.tasks.pretrained import load_encoder
from pres_dist.training.trainer import Trainer

MIN_BATCHES = 8
"""Smallest number of temporal batches per calibration epoch for a batch size to be tried."""


@dataclass(frozen=True)
class Trial:
    """Result of training with one batch size.

    Attributes:
        pending: statistics of pending events at this batch size.
        metric: the task's metric of the best epoch, on the validation split of the calibration's
            events, averaged over seeds. None if a training diverged.
    """

    pending: Discontinuity
    metric: float | None

    def costs(self, base: Trial) -> float:
        """Return the loss of the metric relative to `base`; infinite if training diverged."""
        if self.metric is None or base.metric is None:
            return float("inf")
        return base.metric - self.metric


@dataclass(frozen=True)
class Calibration:
    """Chosen batch size, and the trials that led to it, sorted by batch size.

    Attributes:
        num_events: number of training events of the calibration.
        num_candidates: number of candidate batch sizes, tried or not.
    """

    batch_size: int
    metric: str
    tolerance: float
    num_events: int
    num_candidates: int
    trials: Sequence[Trial]


def calibrate(
    config: RunConfig, device: torch.device, world: World, progress: Progress
) -> Calibration:
    """Choose the size of the temporal batch; all workers take part in every trial.

    Batch sizes double from `base_batch` on. Accuracy is assumed to fall as batches grow, so that
    not all sizes need a trial.

    Args:
        config: configuration of the run; `calibration` controls the search.
        device: device to train on.
        world: the workers.
        progress: receives a note for every trial and for the choice.

    Raises:
        ConfigError: there are too few events or labels, or no validation split, to compare batch
            sizes.
        NonFiniteError: even the base batch diverges.
        DataError: the stream cannot be used.
    """
    if not config.data.validation_share:
        raise ConfigError(
            "training.batch_size must be a number where data.validation_share is 0, got auto"
        )
    trials = _Trials(config, device, world, progress)
    base = trials.of(trials.profile[0])
    if base.metric is None:
        raise NonFiniteError(
            f"calibration: training diverges at the base batch of {base.pending.batch_size} "
            "already; a smaller training.learning_rate may help"
        )
    tolerance = config.calibration.tolerance
    chosen = largest_passing(trials.profile, lambda row: trials.of(row).costs(base) <= tolerance)
    tried = [trial for _, trial in sorted(trials.made.items())]
    cost = trials.of(chosen).costs(base)
    text = (
        f"training.batch_size: auto is {chosen.batch_size:,}: it costs {cost:.4f} {trials.metric} "
        f"against {base.pending.batch_size:,}, within the tolerance of {tolerance:g}"
    )
    beyond = [trial for trial in tried if trial.pending.batch_size > chosen.batch_size]
    if beyond:
        text += f"; {beyond[0].pending.batch_size:,} costs {beyond[0].costs(base):.4f}"
    else:
        text += "; no larger one was to be tried"
    progress.note(text)
    return Calibration(
        chosen.batch_size,
        trials.metric,
        tolerance,
        trials.num_events,
        len(trials.profile),
        tried,
    )


def largest_passing(
    profile: Sequence[Discontinuity], passes: Callable[[Discontinuity], bool]
) -> Discontinuity:
    """Find the largest batch size that passes by bisection; the first is assumed to pass.

    The next candidate is the one whose share of affected events is closest to halfway between the
    shares of the largest size known to pass and of the smallest known to fail.

    Args:
        profile: ascending batch sizes; all sizes above one that fails are assumed to fail.
        passes: returns True if a batch size passes.
    """
    low, high = 0, len(profile)
    while high - low > 1:
        above = profile[min(high, len(profile) - 1)]
        halfway = (profile[low].affected_share + above.affected_share) / 2
        distances = {
            row: abs(profile[row].affected_share - halfway) for row in range(low + 1, high)
        }
        tried = min(distances, key=distances.__getitem__)
        low, high = (tried, high) if passes(profile[tried]) else (low, tried)
    return profile[low]


def with_batch_size(config: RunConfig, batch_size: int) -> RunConfig:
    """Return the configuration with `training.batch_size` set to a number."""
    training = config.training.model_copy(update={"batch_size": batch_size})
    return config.model_copy(update={"training": training})


class _Trials:
    """Lazily trained trials of batch sizes, on the first events of the training split.

    Attributes:
        profile: candidate batch sizes, smallest first.
        made: finished trials by batch size.
        metric: name of the metric that trials are compared by.
    """

    def __init__(
        self, config: RunConfig, device: torch.device, world: World, progress: Progress
    ) -> None:
        self._config = _shortened(config, world)
        self._data = world.rank0_first(lambda: load_data(self._config, device))
        self._world, self._progress = world, progress
        self.num_events = self._data.split.train_end
        self.profile = _candidates(self._config, self._data)
        self.made: dict[int, Trial] = {}
        self.metric = ""

    def of(self, row: Discontinuity) -> Trial:
        """Return the trial of a batch size; train it on the first call."""
        if row.batch_size not in self.made:
            values = [
                self._train(row.batch_size, self._config.training.seed + repeat)
                for repeat in range(self._config.calibration.seeds)
            ]
            finite = [value for value in values if value is not None]
            mean = statistics.fmean(finite) if len(finite) == len(values) else None
            self.made[row.batch_size] = Trial(row, mean)
            measured = "diverged" if mean is None else f"{self.metric} {mean:.4f}"
            ties = ""
            if row.largest_batch > row.batch_size:
                ties = f" (batches of up to {row.largest_batch:,} events of equal time)"
            self._progress.note(
                f"calibration: batch {row.batch_size:,}{ties}: {row.affected_share:.0%} of events "
                f"with pending ones, {row.mean_pending:.1f} on average; validation {measured}"
            )
        return self.made[row.batch_size]

    def _train(self, batch_size: int, seed: int) -> float | None:
        """Train once; return the best epoch's validation metric, or None if training diverges."""
        update = {"batch_size": batch_size, "seed": seed}
        training = self._config.training.model_copy(update=update)
        config = self._config.model_copy(update={"training": training})
        parts = assemble(config, self._data, self._world)
        self.metric = parts.task.best_by
        try:
            load_encoder(parts)
            trainer = Trainer(parts, NoCheckpoints(), MetricsSink(), Progress())
            trainer.fit()
        except NonFiniteError:
            return None
        finally:
            parts.close()
        # Without a defined metric all batch sizes would seem equal.
        if trainer.state.best_metric == NONE_YET:
            raise ConfigError(
                f"training.batch_size must be a number where the first {config.data.max_events:,} "
                f"events have too few labels for an {self.metric} in their validation split, "
                "got auto"
            )
        return trainer.state.best_metric


def _candidates(config: RunConfig, data: Data) -> list[Discontinuity]:
    """Return the profile of the batch sizes to choose from, ascending; the first is the base.

    Raises:
        ConfigError: an epoch has too few batches of the base size.
    """
    limits, stream, end = config.calibration, data.stream, data.split.train_end
    needs = (
        f"training.batch_size: auto needs {MIN_BATCHES} batches of "
        f"calibration.base_batch = {limits.base_batch} events"
    )
    sizes, size = [], limits.base_batch
    while size <= min(limits.largest_batch, end // MIN_BATCHES):
        sizes.append(size)
        size *= 2
    if not sizes:
        raise ConfigError(
            f"{needs}, and calibration.largest_batch = {limits.largest_batch} no smaller than "
            f"that, got {end:,} training events to calibrate on"
        )
    rows = as_index(data.kept)
    base, *larger = discontinuity_profile(stream.src[rows], stream.dst[rows], stream.t[rows], sizes)
    if base.num_batches < MIN_BATCHES:
        raise ConfigError(
            f"{needs}, got {base.num_batches}: events of equal time stay together, up to "
            f"{base.largest_batch:,} of them"
        )
    found = [base]
    for row in larger:  # where many events have equal times, several sizes give the same batches
        if MIN_BATCHES <= row.num_batches < found[-1].num_batches:
            found.append(row)
    return found


def _shortened(config: RunConfig, world: World) -> RunConfig:
    """Return the configuration of a trial: only the first events of the run's training split.

    The run's own split and evaluation negatives are checked first.
    """

    def count_training_events() -> int:
        stream = load_stream(config.data.stream, config.data.max_events)
        split = split_of(config.data, stream)
        check_negatives(config.evaluation, stream, split)
        return split.train_end

    num_events = min(config.calibration.max_events, world.rank0_first(count_training_events))
    data = {"max_events": num_events, "split": "shares"}
    training = {"epochs": config.calibration.epochs, "patience": 0, "checkpoint_every": 0}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "training": config.training.model_copy(update=training),
            "evaluation": config.evaluation.model_copy(update={"negatives": "random"}),
        }
    )
