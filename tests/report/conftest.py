"""Fixtures of the report's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.fake_run import make_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The folder of a finished run with PRES."""
    return make_run(tmp_path / "run")
