"""Columns of rows on their way between host and device: one copy for all of them.

Each copy between a GPU and the host costs about as much as a small one: it is started by the
host, which waits for it. So columns travel as one buffer (`frames.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pres_dist.memory.frames import fill_frame, frame_bytes, unpack_columns


def to_device(columns: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return columns of the host on a device; the host goes on before they have arrived.

    Args:
        columns: [U, ...] each.
        device: returns the columns as they are where this is the CPU.
    """
    if device.type == "cpu":
        return list(columns)
    num_rows = len(columns[0])
    # Torch gives pinned memory away again once the copy from it is done, not before.
    frame_Z = pinned(frame_bytes(columns, num_rows), device)
    fill_frame(frame_Z, columns)
    return unpack_columns(frame_Z.to(device, non_blocking=True), columns, num_rows)


def to_host(columns: Sequence[Tensor]) -> list[Tensor]:
    """Return columns [U, ...] of one device on the host, which waits once for all of them."""
    device = columns[0].device
    if device.type == "cpu":
        return list(columns)
    num_rows = len(columns[0])
    frame_Z = torch.empty(frame_bytes(columns, num_rows), dtype=torch.uint8, device=device)
    fill_frame(frame_Z, columns)
    host_Z = pinned(frame_Z.numel(), device).copy_(frame_Z)
    return unpack_columns(host_Z, columns, num_rows)


def pinned(num_bytes: int, device: torch.device) -> Tensor:
    """Return bytes [num_bytes] of the host that the device copies from and to by itself.

    Only CUDA asks for such memory; the host of another device has ordinary one.
    """
    return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
