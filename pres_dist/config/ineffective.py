"""Settings that change nothing in the chosen mode: said, never passed over in silence."""

from __future__ import annotations

from collections.abc import Callable

from pres_dist.config.base import Config
from pres_dist.config.run import RunConfig

Rule = tuple[str, Callable[[RunConfig], bool], str]

_RULES: list[Rule] = [
    ("model.message_dim", lambda c: c.model.message == "identity", "model.message is identity"),
    (
        "model.aggregator",
        lambda c: c.memory.mailbox_slots == 1,
        "memory.mailbox_slots is 1, and one message is the last, the mean and the sequence",
    ),
    (
        "memory.mailbox_slots",
        lambda c: c.model.aggregator == "last",
        "model.aggregator is last, which reads one slot",
    ),
    *(
        (name, lambda c: c.model.embedding not in ("attention", "sum"), "no neighbours are read")
        for name in ("model.num_layers", "sampling.num_neighbours", "sampling.strategy")
    ),
    ("model.num_heads", lambda c: c.model.embedding != "attention", "there is no attention"),
    *(
        (f"pres.{name}", lambda c: not c.pres.prediction, "pres.prediction is off")
        for name in (
            *("predictor", "corrects", "gate", "initial_gate", "shrinkage", "clip", "pending"),
            *("transition", "components", "clock"),
        )
    ),
    *(
        (f"pres.{name}", lambda c: c.pres.corrects == "lost", "nothing is weighed")
        for name in ("gate", "initial_gate")
    ),
    (
        "training.events_per_step",
        lambda c: c.training.events_per_step >= c.training.batch_size,
        "an optimiser step takes the whole batch",
    ),
    (
        "training.scaling_base",
        lambda c: c.training.learning_rate_scaling == "none",
        "training.learning_rate_scaling is none",
    ),
    ("training.patience", lambda c: c.data.validation_share == 0, "there is no validation part"),
    ("parallel.handover", lambda c: c.parallel.replicas == 1, "parallel.replicas is 1"),
    ("memory.shards", lambda c: c.memory.store != "server", "memory.store is not server"),
    ("data.split_seed", lambda c: c.data.held_out_share == 0, "data.held_out_share is 0"),
]


_ALONE: list[Rule] = [
    (
        "memory.placement",
        lambda c: c.memory.store != "server",
        "one worker holds all of the memory",
    ),
]
"""What has no effect where no worker shares its memory with others."""


def ineffective(config: RunConfig, sharers: int = 2) -> list[str]:
    """A line for each setting that differs from its default and has no effect.

    Args:
        config: the settings.
        sharers: workers that share a memory.
    """
    rules = _RULES + (_ALONE if sharers == 1 else [])
    return [
        f"{name} = {_value(config, name)} has no effect: {reason}"
        for name, idle, reason in rules
        if _value(config, name) != _value(_DEFAULT, name) and idle(config)
    ]


def idle_settings(config: RunConfig) -> set[str]:
    """Names of the settings that have no effect, whatever their value."""
    return {name for name, idle, _ in _RULES if idle(config)}


_DEFAULT = RunConfig()


def _value(config: RunConfig, name: str) -> object:
    section, field = name.split(".")
    part: Config = getattr(config, section)
    return getattr(part, field)
