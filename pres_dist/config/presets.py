"""Named settings for what is done about large temporal batches (docs/pres.md)."""

from __future__ import annotations

from typing import Any, Literal

from pres_dist.config.source import Source

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
            "pending": "predict",
            "transition": "mean",
            "components": 1,
            "clock": "event",
            "coherence_weight": 0.01,
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


def with_preset(source: Source) -> Source:
    """The settings of the preset that `source` names, if any, below its own."""
    name = source.values.get("preset")
    below = Source(PRESETS.get(name, {}) if isinstance(name, str) else {})
    below.put(source)
    return below
