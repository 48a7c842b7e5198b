"""How large a temporal batch may be, as measured (docs/pres.md)."""

from __future__ import annotations

from collections.abc import Mapping

from pres_dist.config.presets import PresetName

TOLERANCE = 0.003
"""Test AP that a batch may cost against the same method at a batch of 200."""
TOLERATED: Mapping[str, int] = {"best": 800}
"""Largest temporal batch within the tolerance on all five streams, by preset; a test derives
it from benchmarks/results/batch_size.json."""
SMALL_BATCH = 200
"""For all other presets: none of them keeps the tolerance beyond it on all streams."""


def largest_batch(preset: PresetName) -> int:
    """The largest temporal batch, in events, that kept accuracy with a preset."""
    return TOLERATED.get(preset, SMALL_BATCH)
