"""Warnings about settings that have no effect in the chosen mode."""

from __future__ import annotations

from collections.abc import Callable

from pres_dist.config.base import Config
from pres_dist.config.run import RunConfig
from pres_dist.config.training import CalibrationConfig

Rule = tuple[str, Callable[[RunConfig], bool], str]

_NO_MEMORY = (
    "model.message",
    "model.message_dim",
    "model.aggregator",
    "model.updater",
    "memory.store",
    "memory.dim",
    "memory.mailbox_slots",
    "memory.shards",
    "memory.update",
    "memory.staleness",
    "parallel.handover",
    "evaluation.memory",
)


def _learns_links(config: RunConfig) -> bool:
    task = config.task
    return task.kind == "link_prediction" or (task.link_weight > 0 and task.pretrained is None)


def _reads_mail(config: RunConfig) -> bool:
    return config.model.updater == "attention"


_RULES: list[Rule] = [
    *((name, lambda c: not c.model.has_memory, "the model has no memory") for name in _NO_MEMORY),
    *(
        (name, _reads_mail, "model.updater is attention, which reads mail as it is")
        for name in ("model.message", "model.message_dim", "model.aggregator")
    ),
    (
        "model.message_dim",
        lambda c: c.model.message == "identity" and not _reads_mail(c),
        "model.message is identity",
    ),
    (
        "model.aggregator",
        lambda c: c.memory.mailbox_slots == 1 and not _reads_mail(c),
        "memory.mailbox_slots is 1, and one message is the last, the mean and the sequence",
    ),
    (
        "memory.mailbox_slots",
        lambda c: c.model.aggregator == "last" and not _reads_mail(c),
        "model.aggregator is last, which reads one slot",
    ),
    *(
        (name, lambda c: not c.model.reads_neighbors, "no neighbors are read")
        for name in ("model.num_layers", "sampling.strategy")
    ),
    (
        "sampling.num_neighbors",
        lambda c: not (c.model.reads_neighbors or c.model.mail_hops),
        "no neighbors are read",
    ),
    (
        "model.num_heads",
        lambda c: not (c.model.attends or _reads_mail(c)),
        "there is no attention",
    ),
    *(
        (f"pres.{name}", lambda c: not c.pres.prediction, "pres.prediction is off")
        for name in (
            *("predictor", "corrects", "initial_gate", "shrinkage", "components"),
            "clock",
        )
    ),
    ("pres.initial_gate", lambda c: c.pres.corrects == "lost", "nothing is weighed"),
    (
        "training.events_per_step",
        lambda c: (
            c.training.batch_size != "auto" and c.training.events_per_step >= c.training.batch_size
        ),
        "an optimizer step takes the whole batch",
    ),
    *(
        (name, lambda c: c.training.optimizer != "muon", "training.optimizer is adamw")
        for name in ("training.vector_rate", "training.momentum")
    ),
    (
        "training.gradient_clip",
        lambda c: c.training.optimizer == "muon",
        "training.optimizer is muon, which normalizes the gradient",
    ),
    (
        "training.scaling_base",
        lambda c: c.training.learning_rate_scaling == "none",
        "training.learning_rate_scaling is none",
    ),
    *(
        (
            f"calibration.{name}",
            lambda c: c.training.batch_size != "auto",
            "training.batch_size is not auto",
        )
        for name in CalibrationConfig.model_fields
    ),
    ("training.patience", lambda c: c.data.validation_share == 0, "there is no validation split"),
    ("parallel.handover", lambda c: c.parallel.replicas == 1, "parallel.replicas is 1"),
    (
        "memory.update",
        lambda c: c.parallel.slices == 1 and c.parallel.epochs == 1,
        "parallel.slices is 1, and a node is updated once",
    ),
    ("memory.shards", lambda c: c.memory.store != "server", "memory.store is not server"),
    *(
        (f"data.{name}", lambda c: c.data.split == "official", "data.split is official")
        for name in ("train_share", "validation_share")
    ),
    (
        "evaluation.num_negatives",
        lambda c: c.evaluation.negatives == "tgb",
        "evaluation.negatives is tgb, which takes all that are stored",
    ),
    *(
        (f"task.{name}", lambda c: c.task.kind == "link_prediction", "links have no labels")
        for name in ("link_weight", "class_weights", "own_features", "missing_label", "pretrained")
    ),
    *(
        (f"evaluation.{name}", lambda c: c.task.kind != "link_prediction", "classes are measured")
        for name in ("negatives", "num_negatives", "seed")
    ),
    ("task.link_weight", lambda c: c.task.pretrained is not None, "task.pretrained is frozen"),
    *(
        (name, lambda c: not _learns_links(c), "no links are learned")
        for name in (
            "sampling.num_negatives",
            "sampling.negatives",
            "parallel.epochs",
        )
    ),
    (
        "model.decoder",
        lambda c: not _learns_links(c) and c.task.pretrained is None,
        "no links are learned",
    ),
    (
        "model.common_neighbors",
        lambda c: c.model.decoder != "history" or not c.model.embeds_neighbors,
        "the decoder reads no neighbors",
    ),
    ("data.split_seed", lambda c: c.data.held_out_share == 0, "data.held_out_share is 0"),
]


_ALONE: list[Rule] = [
    (
        "parallel.timeout_s",
        lambda c: c.memory.store != "server" and c.parallel.replicas == 1,
        "one worker waits for nobody",
    ),
]
"""Settings that have no effect if workers do not share a memory."""


def ineffective(config: RunConfig, sharers: int = 2) -> list[str]:
    """Return a line for each non-default setting that has no effect, with one reason.

    Args:
        config: the settings.
        sharers: number of workers that share a memory.
    """
    reasons: dict[str, str] = {}
    for name, idle, reason in _RULES + (_ALONE if sharers == 1 else []):
        if _value(config, name) != _value(_DEFAULT, name) and idle(config):
            reasons.setdefault(name, reason)
    return [
        f"{name} = {_value(config, name)} has no effect: {reason}"
        for name, reason in reasons.items()
    ]


def idle_settings(config: RunConfig) -> set[str]:
    """Return the names of the settings that have no effect, whatever their value."""
    return {name for name, idle, _ in _RULES if idle(config)}


_DEFAULT = RunConfig()


def _value(config: RunConfig, name: str) -> object:
    section, field = name.split(".")
    part: Config = getattr(config, section)
    return getattr(part, field)
