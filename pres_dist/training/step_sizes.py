"""Events per optimizer step, and the learning rate."""

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


def updates_of_batch(config: TrainingConfig, num_events: int) -> int:
    """Return the number of optimizer steps over a temporal batch of `num_events` events."""
    return max(math.ceil(num_events / config.events_per_step), 1) if config.events_per_step else 1


def learning_rate(config: TrainingConfig, step: int, replicas: int = 1, done: float = 0.0) -> float:
    """Return the learning rate of an optimizer step.

    If a step has more events than `scaling_base`, the rate is scaled by their ratio to the power
    0, 1/2 or 1. It rises linearly over the first `warmup_steps` steps, and decays with the
    finished share of the run.
    A step takes a temporal batch of each memory replica, or `events_per_step` of it.

    Args:
        config: peak, scaling, warmup and decay.
        step: number of optimizer steps before.
        replicas: number of copies of the memory.
        done: finished share of the run's temporal batches, from 0 to 1.
    """
    whole = config.events_per_batch
    events = min(whole, config.events_per_step or whole)
    ratio = max(events * replicas / config.scaling_base, 1.0)
    rate = config.learning_rate * ratio ** _EXPONENTS[config.learning_rate_scaling]
    if config.warmup_steps:
        rate *= min(1.0, (step + 1) / config.warmup_steps)
    return rate * _DECAYS[config.learning_rate_decay](done)
