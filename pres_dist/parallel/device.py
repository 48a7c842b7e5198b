"""Device selection: each worker of a machine uses its own GPU."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist

from pres_dist.errors import ConfigError, first_line


def device_of(name: str) -> torch.device:
    """Return the device of this worker, with its index.

    If several workers run on a machine, a device without an index gets the worker's LOCAL_RANK
    as its index.

    Args:
        name: as in `training.device`.

    Raises:
        ConfigError: the device does not exist, or two workers would get the same one.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if _is_numbered(device):
            device = _of_this_worker(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"training.device must be auto or a device torch can use here (cpu, cuda, cuda:1), "
            f"got {name!r}: {first_line(error)}"
        ) from None
    return device


def is_here(name: str) -> bool:
    """Return True if this machine has the device, named as in `training.device`."""
    if name == "auto":
        return True
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def use_device(device: torch.device) -> None:
    """Make the device the current one of this process.

    Collectives of Python objects use the current device, whatever device the tensors of the
    process are on. Without this every worker would use the first GPU, which NCCL refuses.
    """
    if _is_numbered(device):
        torch.get_device_module(device).set_device(device)


def group_arguments(device: torch.device) -> dict[str, Any]:
    """Return the arguments of `init_process_group` for workers on this kind of device.

    The backend is NCCL for GPUs and gloo for CPUs. NCCL also gets the device, because it would
    otherwise guess one from the rank.
    """
    backend = dist.get_default_backend_for_device(device)
    return {"backend": backend, "device_id": device if _is_numbered(device) else None}


def workers_here() -> int:
    """Return the number of workers on this machine, as set by torchrun or Ray Train."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _is_numbered(device: torch.device) -> bool:
    """Return True if a machine may have several devices of this type, one of them current."""
    return device.type != "cpu" and hasattr(torch.get_device_module(device), "set_device")


def _of_this_worker(device: torch.device) -> torch.device:
    module, workers = torch.get_device_module(device), workers_here()
    if not module.is_available():
        return device  # torch reports the reason when the device is first used
    count, numbered = int(module.device_count()), str(device) != device.type
    if numbered and device.index >= count:
        raise ConfigError(
            f"training.device must be one of the {count} GPUs of this machine "
            f"({device.type}:0 to {device.type}:{count - 1}), got '{device}'"
        )
    if workers > count:
        raise ConfigError(
            f"training.device: each worker needs a GPU of its own, got {workers} workers and "
            f"{count} {'GPU' if count == 1 else 'GPUs'} on this machine: start at most {count} "
            f"here, or set training.device to cpu"
        )
    if numbered and workers > 1:
        raise ConfigError(
            f"training.device must be {device.type}, without a number, where several workers "
            f"run on a machine, and each takes the GPU of its own number; got '{device}' "
            f"for {workers} workers"
        )
    if numbered:
        return device
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if "LOCAL_RANK" not in os.environ and not alone and count > 1:
        raise ConfigError(
            f"training.device: {device.type} takes the GPU of the worker's number on its machine, "
            "but LOCAL_RANK is not set (torchrun sets it): set it, or give each worker a "
            f"device of its own ({device.type}:0, {device.type}:1)"
        )
    return torch.device(device.type, int(os.environ.get("LOCAL_RANK", "0")))
