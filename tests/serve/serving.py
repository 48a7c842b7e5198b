"""Events that go on from the stream of a run, and requests that ask about them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.serve.requests import IngestRequest, RecommendRequest, ScoreRequest, parsed


def copied(run_dir: Path, place: Path) -> Path:
    """A copy of a run that a test may extend."""
    shutil.copytree(run_dir, place)
    return place


def later_events(first_time: int, num: int, seed: int = 3) -> list[dict[str, Any]]:
    """Events between users and items of the habitual stream; many share their time."""
    rng = np.random.default_rng(seed)
    t = first_time + np.cumsum(rng.integers(0, 2, num))
    rows = zip(
        rng.integers(0, 40, num).tolist(),
        rng.integers(40, 55, num).tolist(),
        t.tolist(),
        rng.normal(size=(num, 3)).tolist(),
        strict=True,
    )
    return [dict(zip(("src", "dst", "t", "features"), row, strict=True)) for row in rows]


def ingest(events: Sequence[dict[str, Any]], after: int | None = None) -> IngestRequest:
    return parsed(IngestRequest, {"events": list(events), "after": after})


def score(pairs: Sequence[Sequence[object]], t: object = None) -> ScoreRequest:
    return parsed(ScoreRequest, {"pairs": [list(pair) for pair in pairs], "t": t})


def recommend(src: object, **options: object) -> RecommendRequest:
    return parsed(RecommendRequest, {"src": src, **options})
