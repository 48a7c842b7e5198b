"""Runs that tests use: trained once for all of them, in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pres_dist.events.stream import EventStream
from tests.support.small_run import MakeConfig, habitual_stream, labelled_stream, small_config
from tests.support.trained_runs import trained


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stream `habits`; and runs by kind, once they are asked for."""
    folder = tmp_path_factory.mktemp("runs")
    habitual_stream(800).save(folder / "habits")
    labelled_stream(800).save(folder / "labelled")
    ends = np.random.default_rng(4).integers(0, 20, (2, 500))
    EventStream.from_arrays(*ends, np.arange(500), name="talk").save(folder / "talks")
    return folder


@pytest.fixture
def tgn_run(runs: Path) -> Path:
    return trained(runs)


@pytest.fixture
def make_config(runs: Path) -> MakeConfig:
    return small_config(runs / "habits")
