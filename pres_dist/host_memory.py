"""Settings of the C library for memory that tensors have freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 64 * 2**20
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory of large tensors for the next ones of their size.

    By default glibc returns blocks above a threshold of 128 KiB to 32 MiB to the system at once,
    and every step faults the same pages in again: more than half of all page faults of training.

    Returns:
        True if the settings were accepted; only glibc supports them.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wishes = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _KEPT_BYTES}
    told = [mallopt(parameter, value) for parameter, value in wishes.items()]
    return all(told)
