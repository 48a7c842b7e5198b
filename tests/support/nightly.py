"""The full matrix: what only `pytest --nightly` runs.

By default each matrix runs at least one case of each kind, and random tests draw fewer cases.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import pytest

NIGHTLY = os.environ.get("PRES_DIST_NIGHTLY", "0") != "0"
"""True under `pytest --nightly`, which sets this variable for its workers too."""


def nightly_except(daily: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Return the cases as parameters of a test; only those of `daily` run by default."""
    cases = list(cases)
    assert all(case in cases for case in daily), f"{daily} must be some of {cases}"
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else [case]),
            marks=[] if case in daily else pytest.mark.nightly,
        )
        for case in cases
    ]


def drawn(cases: int, share: int = 5) -> int:
    """Return how many random cases to try: all nightly, one in `share` by default."""
    return cases if NIGHTLY else -(-cases // share)
