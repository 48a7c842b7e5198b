"""Copies of row columns between host and device: one copy for all columns.

Launch and synchronization dominate the cost of a copy between GPU and host. So all columns
are copied as one buffer (`frames.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pres_dist.memory.frames import fill_frame, frame_bytes, unpack_columns


def to_device(columns: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy columns from the host to a device, without waiting for the copy to finish.

    Args:
        columns: [U, ...] each.
        device: target device; for the CPU, the columns are returned as they are.
    """
    if device.type == "cpu":
        return list(columns)
    num_rows = len(columns[0])
    # Torch reuses pinned memory only after the copy from it has finished.
    frame_Z = pinned(frame_bytes(columns, num_rows), device)
    fill_frame(frame_Z, columns)
    return unpack_columns(frame_Z.to(device, non_blocking=True), columns, num_rows)


def to_host(columns: Sequence[Tensor]) -> list[Tensor]:
    """Copy columns [U, ...] from one device to the host, waiting once for all of them."""
    device = columns[0].device
    if device.type == "cpu":
        return list(columns)
    num_rows = len(columns[0])
    frame_Z = torch.empty(frame_bytes(columns, num_rows), dtype=torch.uint8, device=device)
    fill_frame(frame_Z, columns)
    host_Z = pinned(frame_Z.numel(), device).copy_(frame_Z)
    return unpack_columns(host_Z, columns, num_rows)


def pinned(num_bytes: int, device: torch.device) -> Tensor:
    """Return [num_bytes] bytes of page-locked host memory, for asynchronous copies.

    Only CUDA uses page-locked memory; for other devices the memory is ordinary.
    """
    return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
