"""Settings and fixtures of all tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support", "tests.memory.store_contract")

from tests.support.small_run import MakeConfig, habitual_stream, small_config  # noqa: E402

# A busy machine is no defect: examples have no time of their own, tests have pytest's timeout.
settings.register_profile("pres_dist", deadline=None)
settings.load_profile("pres_dist")

# Test runs in the background inherit ignored signals, and hand them on to the processes that they
# start: tests of signals need the usual handling.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Return a function that configures the training of a small stream, in seconds."""
    habitual_stream().save(tmp_path / "habits")
    return small_config(tmp_path / "habits")
