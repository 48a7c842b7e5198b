"""The small run of tests/training, for several workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import MakeConfig, habitual_stream, small_config


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    habitual_stream().save(tmp_path / "habits")
    return small_config(tmp_path / "habits")
