"""The memory update compiled by `torch.compile`, for training.

The rest is left alone: the correction gains nothing, and Torch cannot compile the sparse products
by which attention reads neighbors in place. `benchmarks/compiled.py` measures all of them.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from pres_dist.errors import ConfigError
from pres_dist.model.updater import MemoryUpdater


def check_compiler(device: torch.device) -> None:
    """Raise ConfigError where nothing can be compiled for a device."""
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
    """Compile what an updater does while it is trained, for any numbers of nodes and messages.

    Evaluation goes on as it is: its results do not depend on the setting.

    Raises:
        ConfigError: nothing can be compiled for the device.
    """
    if "forward" in vars(updater):  # it is done
        return
    check_compiler(device)
    # Or else each mailbox slot, whose number of messages differs, would end a compiled part.
    torch._dynamo.config.capture_dynamic_output_shape_ops = True
    as_it_is, compiled = updater.forward, torch.compile(updater.forward, dynamic=True)

    def forward(*given: Any) -> Any:
        return (compiled if updater.training else as_it_is)(*given)

    updater.forward = forward  # type: ignore[method-assign, assignment]
