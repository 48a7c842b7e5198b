"""A run to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.trained_runs import trained


@pytest.fixture
def served_run(runs: Path, tmp_path: Path) -> Path:
    """The TGN run, a copy for this test."""
    from tests.support.serving import copied  # needs the extra `serve`

    return copied(trained(runs), tmp_path / "run")
