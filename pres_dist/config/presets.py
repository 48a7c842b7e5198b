"""Named presets for training with large temporal batches (docs/explanation/pres.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from pres_dist.config.kinds import KINDS
from pres_dist.config.memory import MemoryConfig
from pres_dist.config.pres import PresConfig
from pres_dist.config.source import Source
from pres_dist.config.training import TrainingConfig

PresetName = Literal["best", "paper", "none"]

_SECTIONS: dict[str, type[BaseModel]] = {
    "memory": MemoryConfig,
    "training": TrainingConfig,
    "pres": PresConfig,
}
_ONE_STEP: dict[str, Any] = {"memory": {"mailbox_slots": 1}, "training": {"events_per_step": 0}}
_PAPER: dict[str, Any] = {
    "prediction": True,
    "predictor": "drift",
    "corrects": "update",
    "initial_gate": 0.9,
    "shrinkage": 0.0,
    "components": 2,
    "clock": "time",
    "coherence_weight": 0.1,
}


def _defaults(section: str, fields: list[str]) -> dict[str, Any]:
    return {name: _SECTIONS[section].model_fields[name].default for name in fields}


PRESETS: dict[str, dict[str, Any]] = {
    "best": {
        **{section: _defaults(section, [*fields]) for section, fields in _ONE_STEP.items()},
        "pres": _defaults("pres", list(_PAPER)),
    },
    "paper": {**_ONE_STEP, "pres": _PAPER},
    "none": {**_ONE_STEP, "pres": {"prediction": False, "coherence_weight": 0.0}},
}
"""Settings of each preset.

`best` (the default) measured best at large temporal batches. `paper` is PRES as published, with one
message per node and one optimizer step per batch. `none` is the model without PRES."""


def with_preset(source: Source, below: Source) -> Source:
    """Return `source` laid over the settings of the preset that it names, if any.

    Args:
        source: settings of one place.
        below: settings that the result will override; the preset also depends on their model.
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
    """Adapt a preset to a model: with a FIFO mailbox, correct updates and keep its slots."""
    if not (isinstance(model, dict) and settings):
        return settings
    if not rolls_its_mail(model):
        return settings
    pres = {**settings["pres"]}
    if pres.get("corrects") == "lost":
        pres["corrects"] = "update"
    return {"training": settings["training"], "pres": pres}


def rolls_its_mail(model: dict[str, Any]) -> bool:
    """Return True if an unvalidated model section has a FIFO mailbox (APAN)."""
    kind = KINDS.get(str(model.get("kind")))
    updater = model.get("updater") or (kind and kind.parts.get("updater"))
    return updater == "attention"
