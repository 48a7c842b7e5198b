"""Options, settings and fixtures of all tests."""

from __future__ import annotations

import os
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --nightly."""
    parser.addoption(
        "--nightly",
        action="store_true",
        default=os.environ.get("PRES_DIST_NIGHTLY", "0") != "0",
        help="run the full matrix: tests marked nightly, and more random cases",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell test modules, before they are imported, whether the full matrix runs."""
    os.environ["PRES_DIST_NIGHTLY"] = str(int(_nightly(config)))


def _nightly(config: pytest.Config) -> bool:
    """Return True under `--nightly` and under `-m nightly` or `-m "nightly or not nightly"`."""
    markers = config.getoption("markexpr").replace("not nightly", "")
    return config.getoption("--nightly") or "nightly" in markers


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked nightly, unless they are asked for."""
    if _nightly(config):
        return
    left_out = [item for item in items if item.get_closest_marker("nightly")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Return a function that configures the training of a small stream, in seconds."""
    habitual_stream().save(tmp_path / "habits")
    return small_config(tmp_path / "habits")
