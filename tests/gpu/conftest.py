"""The device that tests of this folder run on."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    """A GPU, or what PRES_DIST_TEST_DEVICE names: `cpu` tries the tests themselves."""
    name = os.environ.get("PRES_DIST_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    return torch.device(name)
