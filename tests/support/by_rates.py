"""PRES by rates of change, whatever the defaults are."""

from __future__ import annotations

from typing import Any

from pres_dist.config.pres import PresConfig
from pres_dist.config.presets import PRESETS


def by_rates(**changes: Any) -> PresConfig:
    """The preset `paper` by the logarithm of elapsed time, with changes."""
    return PresConfig(**{**PRESETS["paper"]["pres"], "clock": "log", **changes})
