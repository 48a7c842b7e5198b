"""Orderly end of a command on SIGINT, SIGTERM or SIGHUP.

A signal raises an exception in the main thread, so that the stack unwinds and no partial file and
no child process is left. Whoever runs at that moment may swallow the exception: a finalizer or a
callback of a weak reference, as each import has, `hasattr` in C, the start of a Cython module. So
a timer raises it again until the stack unwinds.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TERMINATED = 143
"""Exit code of a command that SIGTERM ended, as in a shell."""
REPEAT_S = 0.2


@dataclass
class _Block:
    """Block of `terminable`.

    Attributes:
        ending: the exception that ends it, once a signal has come.
        over: True while its handlers are being removed; signals then raise nothing.
    """

    ending: BaseException | None = None
    over: bool = False


_block: _Block | None = None


@contextmanager
def terminable() -> Iterator[None]:
    """End the block by KeyboardInterrupt on SIGINT, by SystemExit on SIGTERM and SIGHUP.

    It ends so even if code inside returns normally or raises another exception, as Ray does.
    Ignored signals stay so, as under `nohup`. Outside the main thread, where there are no signals,
    this does nothing.
    """
    global _block
    numbers = shutdown_signals()
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        numbers.append(signal.SIGINT)
    try:
        before = {number: signal.signal(number, end) for number in numbers}
    except ValueError:  # not the main thread
        yield
        return
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _end_again)
    timer = signal.getitimer(signal.ITIMER_REAL)
    outer, block = _block, _Block()
    _block = block
    try:
        yield
    finally:
        block.over = True  # before the first call: only calls let signals in
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in before.items():
            signal.signal(number, handler)
        _block = outer
        if block.ending is not None:
            raise block.ending


def end(number: int, _frame: object = None) -> None:
    """Handle a signal: end the block of `terminable`, or the process if there is none."""
    leave_terminal(number)
    error = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED)
    if _block is not None:
        _block.ending = error
        if _block.over:
            return
        signal.setitimer(signal.ITIMER_REAL, REPEAT_S, REPEAT_S)
    raise error


def forget_interrupt() -> None:
    """Continue after a KeyboardInterrupt that did not come from a signal and was caught."""
    if _block is not None:
        _block.ending = None


def _end_again(_number: int, _frame: object) -> None:
    """Raise the exception again, unless it is unwinding the stack and this is a `finally`."""
    if _block is None or _block.ending is None or _block.over:
        return
    error = sys.exc_info()[1]
    while error is not None and error is not _block.ending:
        error = error.__context__
    if error is None:
        raise _block.ending


def shutdown_signals() -> list[signal.Signals]:
    """Return the signals that request a shutdown of this process."""
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hang_up]


@contextmanager
def handling(handler: Callable[[int, object], None]) -> Iterator[list[signal.Signals]]:
    """Handle the signals that request a shutdown otherwise while the block runs; yield them."""
    before = {number: signal.signal(number, handler) for number in shutdown_signals()}
    try:
        yield list(before)
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def hang_up_as_sigterm() -> None:
    """Turn SIGHUP into SIGTERM, for a server that handles only that; inside `terminable`."""

    def hand_on(number: int, _frame: object) -> None:
        leave_terminal(number)
        signal.raise_signal(signal.SIGTERM)

    for number in shutdown_signals():
        if number != signal.SIGTERM:
            signal.signal(number, hand_on)


def leave_terminal(number: int) -> None:
    """Drop further output if the signal means that the terminal is gone.

    Every write to it would fail, and so would the run on its last step.
    """
    if number == getattr(signal, "SIGHUP", None):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            if _is_terminal(descriptor):
                os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _is_terminal(descriptor: int) -> bool:
    """Return True for a terminal, also for one that is gone, where `isatty` returns False."""
    try:
        return stat.S_ISCHR(os.fstat(descriptor).st_mode)
    except OSError:
        return False
