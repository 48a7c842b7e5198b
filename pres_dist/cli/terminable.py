"""Commands that SIGTERM, or SIGHUP, ends in order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pres_dist.parallel.notice import TERMINATED, Notice, leave_terminal, notices


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

    def stop(number: int, _frame: object) -> None:
        nonlocal stopped
        leave_terminal(number)
        if notice is not None and notice.take():
            return
        stopped = True
        sys.exit(TERMINATED)

    try:
        before = {number: signal.signal(number, stop) for number in notices()}
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
        for number, handler in before.items():
            signal.signal(number, handler)


def hang_up_as_sigterm() -> None:
    """Let SIGHUP be SIGTERM, for a server that handles that one alone; inside of `terminable`."""

    def hand_on(number: int, _frame: object) -> None:
        leave_terminal(number)
        signal.raise_signal(signal.SIGTERM)

    for number in notices():
        if number != signal.SIGTERM:
            signal.signal(number, hand_on)
