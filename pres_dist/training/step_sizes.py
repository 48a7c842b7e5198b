"""How many events an optimizer step takes, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from pres_dist.config.training import TrainingConfig

_EXPONENTS = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
_DECAYS: dict[str, Callable[[float], float]] = {
    "none": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}


def updates_of_batch(config: TrainingConfig, num_events: int, done: float = 0.0) -> int:
    """Optimizer steps over a temporal batch.

    They grow as the learning rate falls, as far as `step_growth` lets them: a step of N times the
    events at N times the rate moves the weights about as far as N steps do (Smith et al., "Don't
    decay the learning rate, increase the batch size", ICLR 2018).

    Args:
        config: how many events each of them takes.
        num_events: of the batch.
        done: share of the run's temporal batches that are done, from 0 to 1.
    """
    if not config.events_per_step:
        return 1
    growth = min(config.step_growth, 1 / max(_DECAYS[config.learning_rate_decay](done), 1e-9))
    return max(math.ceil(num_events / (config.events_per_step * growth)), 1)


def growth_of_steps(config: TrainingConfig, num_events: int, num_updates: int) -> float:
    """Events of an optimizer step over `events_per_step`, 1 at least: what its rate is times.

    Args:
        config: how many events an optimizer step takes in the beginning.
        num_events, num_updates: of the temporal batch.
    """
    each = config.events_per_step * num_updates
    return max(num_events / each, 1.0) if each else 1.0


def learning_rate(config: TrainingConfig, step: int, replicas: int = 1, done: float = 0.0) -> float:
    """Learning rate of an optimizer step.

    Scaled by (events a step / scaling_base) to the power 0, 1/2 or 1, risen linearly
    over the first `warmup_steps` steps, and fallen with the share of the run that is
    done. A step takes a temporal batch of each memory replica, or `events_per_step` of it.

    Args:
        config: peak and shape.
        step: optimizer steps before.
        replicas: copies of the memory.
        done: share of the run's temporal batches that are done, from 0 to 1.
    """
    whole = config.events_per_batch
    events = min(whole, config.events_per_step or whole)
    ratio = events * replicas / config.scaling_base
    rate = config.learning_rate * ratio ** _EXPONENTS[config.learning_rate_scaling]
    if config.warmup_steps:
        rate *= min(1.0, (step + 1) / config.warmup_steps)
    return rate * _DECAYS[config.learning_rate_decay](done)
