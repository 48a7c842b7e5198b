"""Runs to look at: trained once for all tests, in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pres_dist.events.stream import EventStream
from pres_dist.training.run import train
from tests.inference.explore.hostile_ids import EVENTS, HOSTILE
from tests.support.small_run import small_config
from tests.support.trained_runs import trained


@pytest.fixture
def rates_run(runs: Path) -> Path:
    """Its updates are all corrected by one gate."""
    return trained(runs, "rates")


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose most active node, and whose stream, are called by what would do harm."""
    folder = tmp_path_factory.mktemp("hostile")
    random = np.random.default_rng(1)
    places = [HOSTILE, *(f"place {number}" for number in range(9))]
    place = random.integers(0, 10, EVENTS + 20) * random.integers(0, 2, EVENTS + 20)
    users = [*(f"user {number}" for number in random.integers(0, 12, EVENTS)), *["late"] * 20]
    t = pd.Timestamp("2024-02-01") + pd.to_timedelta(np.arange(EVENTS + 20), unit="h")
    frame = pd.DataFrame({"src": users, "dst": [places[number] for number in place], "t": t})
    stream = EventStream.from_pandas(frame, bipartite=True)
    replace(stream, name=HOSTILE).save(folder / "stream")
    settings = {"training.epochs": 1, "data.max_events": EVENTS}
    train(small_config(folder / "stream")(**settings), folder / "run")
    return folder / "run"
