"""Largest temporal batches that keep accuracy, as measured (docs/pres.md)."""

from __future__ import annotations

from collections.abc import Mapping

from pres_dist.config.presets import PresetName

TOLERANCE = 0.003
"""Largest accepted loss of test AP against the same method at a batch of 200."""
TOLERATED: Mapping[str, int] = {"best": 800}
"""Largest temporal batch within the tolerance on all five streams, by preset; a test derives
it from benchmarks/results/batch_size.json."""
SMALL_BATCH = 200
"""Largest temporal batch for all other presets: none stays within the tolerance beyond it on
all streams."""


def largest_batch(preset: PresetName) -> int:
    """Return the largest temporal batch, in events, that kept accuracy with a preset."""
    return TOLERATED.get(preset, SMALL_BATCH)
