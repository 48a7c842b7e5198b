"""Compile the memory update with `torch.compile`, for training.

Other parts are not compiled: the correction gains nothing, and torch cannot compile the sparse
products with which attention reads neighbors in place. `benchmarks/compiled.py` measures them all.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from pres_dist.errors import ConfigError
from pres_dist.model.updater import MemoryUpdater


def check_compiler(device: torch.device) -> None:
    """Raise ConfigError if torch cannot compile for a device."""
    if device.type != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler  # slow to import

    try:
        get_cpp_compiler()
    except RuntimeError:
        raise ConfigError(
            "training.compile needs a C++ compiler (g++ with Python's headers, or what $CXX names: "
            f"{os.environ.get('CXX', 'nothing')}), and there is none; set it to false"
        ) from None


def compile_update(updater: MemoryUpdater, device: torch.device) -> None:
    """Compile the forward pass of an updater in training, for any number of nodes and messages.

    Evaluation is not compiled, so that its results do not depend on the setting.

    Raises:
        ConfigError: torch cannot compile for the device.
    """
    if "forward" in vars(updater):  # already compiled
        return
    check_compiler(device)
    # Without this, the differing number of messages in each mailbox slot breaks the graph.
    torch._dynamo.config.capture_dynamic_output_shape_ops = True
    as_it_is, compiled = updater.forward, torch.compile(updater.forward, dynamic=True)

    def forward(*given: Any) -> Any:
        return (compiled if updater.training else as_it_is)(*given)

    updater.forward = forward  # type: ignore[method-assign, assignment]
