"""Runs to serve, trained once for all tests of this folder, and events that go on from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pres_dist.events.stream import EventStream
from tests.support.small_run import habitual_stream
from tests.support.trained_runs import trained


@pytest.fixture(scope="session")
def trained_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stream `habits`; and runs by kind, once they are asked for."""
    folder = tmp_path_factory.mktemp("served")
    habitual_stream(800).save(folder / "habits")
    ends = np.random.default_rng(4).integers(0, 20, (2, 500))
    EventStream.from_arrays(*ends, np.arange(500), name="talk").save(folder / "talks")
    return folder


@pytest.fixture
def served_run(trained_dir: Path, tmp_path: Path) -> Path:
    """The TGN run, a copy for this test."""
    from tests.support.serving import copied

    return copied(trained(trained_dir), tmp_path / "run")
