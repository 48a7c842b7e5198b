"""The devices that tests of this folder run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.small_run import habitual_stream


@pytest.fixture
def sim() -> Iterator[torch.device]:
    """The simulated GPU, which is there without one."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("a device in Python needs torch 2.10")
    from tests.gpu import simulated

    # Torch counts the devices that threads of backward passes serve once, at the first of them:
    # perhaps before this device was there.
    with torch.autograd.set_multithreading_enabled(False):
        yield torch.device(simulated.NAME, 0)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """A GPU where there is one, else the simulated one; or what PRES_DIST_TEST_DEVICE names."""
    name = os.environ.get("PRES_DIST_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "sim")
    if name == "sim":
        simulated: torch.device = request.getfixturevalue("sim")
        return simulated
    return torch.device(name)


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """A GPU that is none of the simulation, which has no autocast."""
    if device.type == "sim":
        pytest.skip("needs an NVIDIA GPU")
    return device


@pytest.fixture(scope="session")
def habits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored stream of 500 events."""
    folder = tmp_path_factory.mktemp("habits") / "habits"
    habitual_stream(500).save(folder)
    return folder
