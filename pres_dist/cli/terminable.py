"""Orderly termination of commands on SIGTERM or SIGHUP."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pres_dist.parallel.shutdown import (
    TERMINATED,
    ShutdownRequest,
    leave_terminal,
    shutdown_signals,
)


@contextmanager
def terminable(request: ShutdownRequest | None = None) -> Iterator[None]:
    """Make SIGTERM unwind the stack, so that no partial file and no child process is left.

    The exit code is TERMINATED, even if code inside the block changes it, as Ray does. Outside
    the main thread, where there are no signals, this does nothing.

    Args:
        request: receives the first SIGTERM, and only the second unwinds the stack; None for a
            command that has nothing to finish.
    """
    stopped = False

    def stop(number: int, _frame: object) -> None:
        nonlocal stopped
        leave_terminal(number)
        if request is not None and request.receive():
            return
        stopped = True
        sys.exit(TERMINATED)

    try:
        before = {number: signal.signal(number, stop) for number in shutdown_signals()}
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
    """Turn SIGHUP into SIGTERM, for a server that handles only that; inside `terminable`."""

    def hand_on(number: int, _frame: object) -> None:
        leave_terminal(number)
        signal.raise_signal(signal.SIGTERM)

    for number in shutdown_signals():
        if number != signal.SIGTERM:
            signal.signal(number, hand_on)
