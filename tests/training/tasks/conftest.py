"""Small labelled streams, stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.small_run import MakeConfig, labelled_stream, small_config


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    labelled_stream().save(tmp_path / "labelled")
    labelled_stream(planted=True).save(tmp_path / "planted")
    return small_config(tmp_path / "labelled")
