"""Named settings for what is done about large temporal batches (docs/pres.md)."""

from __future__ import annotations

from typing import Any, Literal

from pres_dist.config.source import Source
from pres_dist.model.kinds import KINDS

PresetName = Literal["default", "best", "paper", "none"]

_ONE_STEP: dict[str, Any] = {
    "memory": {"mailbox_slots": 1},
    "model": {"aggregator": "last"},
    "training": {"events_per_step": 0},
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "best": {
        "memory": {"mailbox_slots": 4},
        "model": {"aggregator": "sequential"},
        "training": {"events_per_step": 200},
        "pres": {
            "prediction": True,
            "predictor": "level",
            "corrects": "lost",
            "shrinkage": 2.0,
            "clip": 0.0,
            "pending": "ignore",
            "transition": "mean",
            "components": 1,
            "clock": "event",
            "coherence_weight": 0.0,
        },
    },
    "paper": {
        **_ONE_STEP,
        "pres": {
            "prediction": True,
            "predictor": "drift",
            "corrects": "update",
            "gate": "learnt",
            "initial_gate": 0.9,
            "shrinkage": 0.0,
            "clip": 0.0,
            "pending": "ignore",
            "transition": "mean",
            "components": 2,
            "clock": "time",
            "coherence_weight": 0.1,
        },
    },
    "none": {**_ONE_STEP, "pres": {"prediction": False, "coherence_weight": 0.0}},
}
"""What each preset sets: `best` is what measured best at large temporal batches; `paper` is PRES
as published; `none` is the model alone."""


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
    kind = KINDS.get(str(model.get("kind")))
    updater = model.get("updater") or (kind and kind.parts.get("updater"))
    if updater != "attention":
        return settings
    pres = {**settings["pres"]}
    if pres.get("corrects") == "lost":
        pres["corrects"] = "update"
    return {"training": settings["training"], "pres": pres}
