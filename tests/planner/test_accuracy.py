"""The largest batch that accuracy allows is what the sweeps in the repository found."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Literal

import pytest

from pres_dist.planner.layout import TOLERANCE, largest_batch

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
Aps = dict[tuple[str, int], float]


def mean_aps(sweep: str, method: str) -> Aps:
    """Mean test AP by stream and batch size."""
    content = json.loads((RESULTS / f"{sweep}.json").read_text(encoding="utf-8"))
    if "cells" in content:
        return {
            (cell["cell"]["stream"], cell["cell"]["batch_size"]): cell["figures"]["ap"]["mean"]
            for cell in content["cells"]
            if cell["cell"]["method"] == method and cell["figures"]
        }
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for run in content["runs"]:
        if run["method"] == method:
            ap = run["negatives"]["random"]["ap"]
            found[run["stream"], run["batch_size"]].append(ap)
    return {cell: statistics.mean(aps) for cell, aps in found.items()}


@pytest.mark.parametrize(
    ("preset", "sweep", "method"),
    [
        ("none", "batch_size", "none"),
        ("paper", "batch_size", "paper"),
        ("best", "decoders", "history_muon"),
    ],
)
def test_it_is_the_largest_within_the_tolerance_on_all_streams(
    preset: Literal["none", "paper", "best"], sweep: str, method: str
) -> None:
    """A preset is compared with itself at 200, and the default with the model alone at 200."""
    aps = mean_aps(sweep, method)
    base = mean_aps("batch_size", "none" if preset == "best" else method)
    streams = {stream for stream, size in base if size == 200}
    sizes = sorted({size for _, size in aps})
    kept = [
        size
        for size in sizes
        if all(aps.get((name, size), 0) >= base[name, 200] - TOLERANCE for name in streams)
    ]
    assert len(streams) == 5
    assert largest_batch(preset) == max(kept)
