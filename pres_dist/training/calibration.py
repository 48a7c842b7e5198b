"""`training.batch_size: auto`: the largest temporal batch that costs no accuracy.

A batch costs accuracy by the events that are pending in it (temporal discontinuity: Su et
al., ICLR 2024, section 4) and by the optimizer steps that it saves. How much, only training
tells: short ones, on the first events of the training split. The discontinuity profile says
where to look.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, NonFiniteError
from pres_dist.evaluation.negatives import check_negatives
from pres_dist.events.builtin import load_stream
from pres_dist.events.discontinuity import Discontinuity, discontinuity_profile
from pres_dist.parallel.world import World
from pres_dist.report.metrics_log import NoLog
from pres_dist.report.progress import Progress, SilentProgress
from pres_dist.training.checkpoint import NoCheckpoints
from pres_dist.training.setup import assemble, load_data, split_of
from pres_dist.training.tasks.pretrained import load_encoder
from pres_dist.training.trainer import Trainer

MIN_BATCHES = 8
"""Temporal batches an epoch of the calibration must have for a batch size to be judged."""


@dataclass(frozen=True)
class Trial:
    """A temporal batch and what is known of it.

    Attributes:
        pending: what is pending in such a batch.
        metric: the task's on the validation part of the calibration's events, of the best
            epoch; the mean over seeds. None where a training diverged.
    """

    pending: Discontinuity
    metric: float | None

    def costs(self, base: Trial) -> float:
        """What the metric loses against another batch's; infinite where training diverged."""
        if self.metric is None or base.metric is None:
            return float("inf")
        return base.metric - self.metric


@dataclass(frozen=True)
class Calibration:
    """The batch size that was chosen, and the trials behind it by batch size.

    Attributes:
        num_events: training events of the calibration.
        num_candidates: batch sizes that could have been chosen.
    """

    batch_size: int
    metric: str
    tolerance: float
    num_events: int
    num_candidates: int
    trials: Sequence[Trial]

    def as_record(self) -> dict[str, Any]:
        """For calibration.json."""
        return asdict(self)


def calibrate(
    config: RunConfig, device: torch.device, world: World, progress: Progress
) -> Calibration:
    """Choose the temporal batch; all workers take part in every trial.

    Batches double from `base_batch` on. Accuracy is taken to fall with the batch, so that
    not all of them need be tried.

    Args:
        config: of the run; `calibration` says how to look.
        device: where to train.
        world: the workers.
        progress: told of every trial and of the choice.

    Raises:
        ConfigError: too few events, or no validation split, to judge a batch by.
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
    tried = sorted(trials.made.items())
    found = Calibration(
        chosen.batch_size,
        trials.metric,
        tolerance,
        trials.num_events,
        len(trials.profile),
        [trial for _, trial in tried],
    )
    progress.note(_explained(found))
    return found


def largest_passing(
    profile: Sequence[Discontinuity], passes: Callable[[Discontinuity], bool]
) -> Discontinuity:
    """The largest batch that passes, found by halving; the first one needs no proof.

    The next to be tried is the one whose share of affected events is halfway between those
    of the largest batch known to pass and of the smallest known to fail.

    Args:
        profile: ascending batches; beyond one that fails all are taken to fail.
        passes: tells of a batch whether it does.
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
    """The same configuration with a number for `training.batch_size`."""
    training = config.training.model_copy(update={"batch_size": batch_size})
    return config.model_copy(update={"training": training})


class _Trials:
    """Trains batch sizes on the first events of the training split, as they are asked for.

    Attributes:
        profile: the candidates, smallest first.
        made: trials by batch size.
        metric: what they are judged by.
    """

    def __init__(
        self, config: RunConfig, device: torch.device, world: World, progress: Progress
    ) -> None:
        self._config = _shortened(config, world)
        self._data = world.rank0_first(lambda: load_data(self._config, device))
        self._world, self._progress = world, progress
        self.num_events = self._data.split.train_end
        self.profile = self._candidates()
        self.made: dict[int, Trial] = {}
        self.metric = ""

    def of(self, row: Discontinuity) -> Trial:
        """The trial of a batch; trains it unless that was done."""
        if row.batch_size not in self.made:
            values = [
                self._train(row.batch_size, self._config.training.seed + repeat)
                for repeat in range(self._config.calibration.seeds)
            ]
            finite = [value for value in values if value is not None]
            mean = statistics.fmean(finite) if len(finite) == len(values) else None
            self.made[row.batch_size] = Trial(row, mean)
            self._progress.note(_told(self.made[row.batch_size], self.metric))
        return self.made[row.batch_size]

    def _candidates(self) -> list[Discontinuity]:
        limits, stream, end = self._config.calibration, self._data.stream, self.num_events
        sizes, largest = [], min(limits.largest_batch, end // MIN_BATCHES)
        size = limits.base_batch
        while size <= largest:
            sizes.append(size)
            size *= 2
        if not sizes:
            raise ConfigError(
                f"training.batch_size: auto needs {MIN_BATCHES} batches of "
                f"calibration.base_batch = {limits.base_batch} events, and "
                f"calibration.largest_batch = {limits.largest_batch} no smaller than that, "
                f"got {end:,} training events to calibrate on"
            )
        kept = self._data.kept
        rows = slice(kept.start, kept.stop) if isinstance(kept, range) else kept
        profile = discontinuity_profile(stream.src[rows], stream.dst[rows], stream.t[rows], sizes)
        if profile[0].num_batches < MIN_BATCHES:
            raise ConfigError(
                f"training.batch_size: auto needs {MIN_BATCHES} batches of "
                f"calibration.base_batch = {limits.base_batch} events, got "
                f"{profile[0].num_batches}: events of equal time stay together, up to "
                f"{profile[0].largest_batch:,} of them"
            )
        return _distinct(profile)

    def _train(self, batch_size: int, seed: int) -> float | None:
        """Best metric of the validation split over the epochs; None where training diverges."""
        update = {"batch_size": batch_size, "seed": seed}
        training = self._config.training.model_copy(update=update)
        config = self._config.model_copy(update={"training": training})
        parts = assemble(config, self._data, self._world)
        self.metric = parts.task.best_by
        try:
            load_encoder(parts)
            trainer = Trainer(parts, NoCheckpoints(), NoLog(), SilentProgress())
            trainer.fit()
        except NonFiniteError:
            return None
        finally:
            parts.close()
        return trainer.position.best_metric


def _distinct(profile: Sequence[Discontinuity]) -> list[Discontinuity]:
    """The sizes, ascending, that make batches of their own, and enough of them.

    Where many events have the same time, several sizes make the same batches. The base batch
    stays in any case.
    """
    base, *larger = profile
    found = [base]
    for row in larger:
        if row.num_batches < found[-1].num_batches and row.num_batches >= MIN_BATCHES:
            found.append(row)
    return found


def _num_training_events(config: RunConfig) -> int:
    """Events before the validation split; what the run could not evaluate by is told now."""
    stream = load_stream(config.data.stream, config.data.max_events)
    split = split_of(config.data, stream)
    check_negatives(config.evaluation, stream, split)
    return split.train_end


def _shortened(config: RunConfig, world: World) -> RunConfig:
    """The configuration of a trial: the first events of the run's training split alone."""
    num_training = world.rank0_first(lambda: _num_training_events(config))
    num_events = min(config.calibration.max_events, num_training)
    data = {"max_events": num_events, "split": "chronological"}
    training = {"epochs": config.calibration.epochs, "patience": 0, "checkpoint_every": 0}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "training": config.training.model_copy(update=training),
            "evaluation": config.evaluation.model_copy(update={"negatives": "random"}),
        }
    )


def _told(trial: Trial, metric: str) -> str:
    row = trial.pending
    measured = "diverged" if trial.metric is None else f"{metric} {trial.metric:.4f}"
    ties = ""
    if row.largest_batch > row.batch_size:
        ties = f" (batches of up to {row.largest_batch:,} events of equal time)"
    return (
        f"calibration: batch {row.batch_size:,}{ties}: {row.affected_share:.0%} of events with "
        f"pending ones, {row.mean_pending:.1f} on average; validation {measured}"
    )


def _explained(found: Calibration) -> str:
    base, by_size = found.trials[0], {t.pending.batch_size: t for t in found.trials}
    cost = by_size[found.batch_size].costs(base)
    text = (
        f"training.batch_size: auto is {found.batch_size:,}: it costs {cost:.4f} {found.metric} "
        f"against {base.pending.batch_size:,}, within the tolerance of {found.tolerance:g}"
    )
    beyond = [trial for size, trial in by_size.items() if size > found.batch_size]
    if not beyond:
        return f"{text}; no larger one was to be tried"
    return f"{text}; {beyond[0].pending.batch_size:,} costs {beyond[0].costs(base):.4f}"
