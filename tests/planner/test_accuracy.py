"""The largest batch that accuracy allows is what the sweep in the repository found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pres_dist.planner.layout import TOLERANCE, largest_batch

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "batch_size.json"


@pytest.mark.parametrize("preset", ["none", "paper", "best"])
def test_it_is_the_largest_within_the_tolerance_on_all_streams(preset: str) -> None:
    cells = json.loads(RESULTS.read_text(encoding="utf-8"))["cells"]
    ap = {
        (cell["cell"]["stream"], cell["cell"]["batch_size"]): cell["figures"]["ap"]["mean"]
        for cell in cells
        if cell["cell"]["method"] == preset
    }
    streams, sizes = {stream for stream, _ in ap}, sorted({size for _, size in ap})
    kept = [
        size
        for size in sizes
        if all(ap[name, size] >= ap[name, sizes[0]] - TOLERANCE for name in streams)
    ]
    assert len(streams) == 5
    assert largest_batch(preset) == max(kept)  # type: ignore[arg-type]
