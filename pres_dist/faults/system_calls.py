"""Faults during the writing of a checkpoint, at system calls on its files."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from pres_dist.run_files import CHECKPOINTS

_BROKEN_AT_BYTES = 4096
_WRITING = os.O_WRONLY | os.O_RDWR


@cache
def watch_files(failpoint: Callable[[Any], None]) -> None:
    """Call `failpoint` before files of checkpoints are opened to write, synced and renamed.

    This happens once in a process and cannot be undone, so only processes with such faults call it.
    """
    sync = os.fsync

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _is_written(arguments) and _in_checkpoint(arguments[0]):
            failpoint("open")
            failpoint("write")
        elif event == "os.rename" and _in_checkpoint(arguments[0]):
            failpoint("rename")

    def watched_sync(descriptor: Any) -> None:
        with suppress(OSError):
            if _in_checkpoint(os.readlink(f"/proc/self/fd/{int(descriptor)}")):
                failpoint("fsync")
        sync(descriptor)

    os.fsync = watched_sync  # type: ignore[assignment]
    sys.addaudithook(audit)


def break_next_write() -> None:
    """Let the kernel kill this process in the middle of its next write to a large file.

    A limit on file sizes causes this: the system call that exceeds it raises SIGXFSZ, which
    Python ignores by default and which kills the process here.
    """
    ctypes.CDLL(None).signal(signal.SIGXFSZ, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_BROKEN_AT_BYTES, resource.RLIM_INFINITY))


def _is_written(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(sign in mode for sign in "wax+")
    return bool(flags & _WRITING)


def _in_checkpoint(path: object) -> bool:
    return isinstance(path, str | os.PathLike) and f"/{CHECKPOINTS}/" in f"{os.fspath(path)}"
