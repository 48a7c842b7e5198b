"""Named settings for what is done about large temporal batches (docs/pres.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from pres_dist.config.kinds import KINDS
from pres_dist.config.memory import MemoryConfig
from pres_dist.config.pres import PresConfig
from pres_dist.config.source import Source
from pres_dist.config.training import TrainingConfig

PresetName = Literal["best", "rates", "paper", "none"]

_SECTIONS: dict[str, type[BaseModel]] = {
    "memory": MemoryConfig,
    "training": TrainingConfig,
    "pres": PresConfig,
}
_ONE_STEP: dict[str, Any] = {"memory": {"mailbox_slots": 1}, "training": {"events_per_step": 0}}
_RATES: dict[str, Any] = {
    "prediction": True,
    "predictor": "drift",
    "corrects": "update",
    "gate": "learned",
    "initial_gate": 0.9,
    "shrinkage": 0.0,
    "clip": 0.0,
    "pending": "ignore",
    "transition": "mean",
    "components": 2,
    "coherence_weight": 0.1,
}


def _defaults(section: str, fields: list[str]) -> dict[str, Any]:
    return {name: _SECTIONS[section].model_fields[name].default for name in fields}


PRESETS: dict[str, dict[str, Any]] = {
    "best": {
        **{section: _defaults(section, [*fields]) for section, fields in _ONE_STEP.items()},
        "pres": _defaults("pres", [*_RATES, "clock"]),
    },
    "rates": {**_ONE_STEP, "pres": {**_RATES, "clock": "log"}},
    "paper": {**_ONE_STEP, "pres": {**_RATES, "clock": "time"}},
    "none": {**_ONE_STEP, "pres": {"prediction": False, "coherence_weight": 0.0}},
}
"""What each preset sets: `best` is what measured best at large temporal batches, and the
default; `paper` is PRES as published, with one message a node and one optimizer step a batch;
`rates` is the same by the logarithm of elapsed time; `none` is the model alone."""


def with_preset(source: Source, below: Source) -> Source:
    """The settings of the preset that `source` names, if any, below its own.

    Args:
        source: settings of one place.
        below: those that they will be laid over, which tell of the model, too.
    """
    name = source.values.get("preset")
    if not isinstance(name, str):
        return source
    known = Source()
    known.put(below)
    known.put(source)
    under = Source(_fitting(PRESETS.get(name, {}), known.values.get("model")))
    under.put(source)
    return under


def _fitting(settings: dict[str, Any], model: Any) -> dict[str, Any]:
    """A preset for a model: mailboxes that roll lose no mail, and keep the slots they have."""
    if not (isinstance(model, dict) and settings):
        return settings
    if not rolls_its_mail(model):
        return settings
    pres = {**settings["pres"]}
    if pres.get("corrects") == "lost":
        pres["corrects"] = "update"
    return {"training": settings["training"], "pres": pres}


def rolls_its_mail(model: dict[str, Any]) -> bool:
    """Whether a model, as it is written, has a mailbox that keeps mail over batches (APAN)."""
    kind = KINDS.get(str(model.get("kind")))
    updater = model.get("updater") or (kind and kind.parts.get("updater"))
    return updater == "attention"
