"""What the C library does with memory that tensors leave."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 64 * 2**20
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory of large tensors for the next ones of their size.

    By default it gives blocks above 128 KiB to 32 MiB back to the system at once, and every
    step pays for the same pages again: more than half of all page faults of training.

    Returns:
        whether the C library could be told; no other than glibc can.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wishes = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _KEPT_BYTES}
    told = [mallopt(parameter, value) for parameter, value in wishes.items()]
    return all(told)
