"""Commands that SIGTERM ends in order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pres_dist.parallel.notice import TERMINATED, Notice


@contextmanager
def terminable(notice: Notice | None = None) -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that nothing half-written and no child stays behind.

    What runs inside may change the exit code on the way, as Ray does; it is TERMINATED all
    the same. Outside of the main thread, where there are no signals, this does nothing.

    Args:
        notice: takes the first SIGTERM, and the stack is unwound by the second; None for a
            command that has nothing to finish.
    """
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        if notice is not None and notice.take():
            return
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
