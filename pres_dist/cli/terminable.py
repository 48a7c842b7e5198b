"""Commands that SIGTERM ends in order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

TERMINATED = 143
"""Exit code of a command that SIGTERM has ended, as a shell gives it."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that nothing half-written and no child stays behind.

    What runs inside may change the exit code on the way, as Ray does; it is TERMINATED all
    the same. Outside of the main thread, where there are no signals, this does nothing.
    """
    stopped = False

    def stop(*_: object) -> NoReturn:
        nonlocal stopped
        stopped = True
        sys.exit(TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    except SystemExit:
        if stopped:
            sys.exit(TERMINATED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
