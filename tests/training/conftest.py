"""A configuration that trains a small stream in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import MakeConfig, habitual_stream, small_config


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    habitual_stream().save(tmp_path / "habits")
    return small_config(tmp_path / "habits")
