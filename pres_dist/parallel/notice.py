"""The notice that a run shall end soon: SIGTERM, as schedulers and clouds give it.

SIGHUP, of a terminal that is closed or a connection that breaks, is the same notice, unless it is
ignored as `nohup` wants. What would be printed on that terminal is dropped from then on.

The first SIGTERM asks workers that train to finish their step and leave a checkpoint; before
and after that there is nothing to save, and it ends the process. The second one ends it at
once. Launchers often pass on a signal that the workers get themselves
as well, so that what follows within two seconds belongs to the first.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TERMINATED = 143
"""Exit code of a command that SIGTERM has ended, as a shell gives it."""
_SAME_NOTICE_S = 2.0


@dataclass
class Notice:
    """Whether the run shall end.

    Attributes:
        asked: this process was told so.
        agreed: all workers know it, at the same step.
        training: whether steps are under way, after which it is heeded.
    """

    asked: bool = False
    agreed: bool = False
    training: bool = False
    _asked_at: float = 0.0

    def take(self) -> bool:
        """Note a SIGTERM; whether it is the notice, and not one to end at once."""
        if not self.asked:
            self.asked, self._asked_at = True, time.monotonic()
        return time.monotonic() - self._asked_at < _SAME_NOTICE_S

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """A block that looks after every step whether it shall end."""
        self.training = True
        try:
            yield
        finally:
            self.training = False

    def forget(self) -> None:
        self.asked = self.agreed = False


PROCESS = Notice()
"""What this process was told; there is one SIGTERM for all that runs in it."""


@contextmanager
def listening() -> Iterator[None]:
    """Let SIGTERM be a notice to this process; outside of the main thread nothing changes.

    Python handles signals between two instructions of the main thread, which may be waiting
    for another worker. So a thread of its own reads them from a pipe, as they come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _end_unless_training) for number in notices()}
    for number in before:
        signal.siginterrupt(number, False)
    woken_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(
        target=_listen, args=(reader, frozenset(before)), name="signals", daemon=True
    ).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        PROCESS.forget()


def notices() -> list[signal.Signals]:
    """Return the signals that are a notice to this process."""
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hang_up]


def leave_terminal(number: int) -> None:
    """Drop what is printed from now on where the signal says that the terminal has gone.

    Every write to it would fail, and so would the run on its last step.
    """
    if number == getattr(signal, "SIGHUP", None):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            if _is_terminal(descriptor):
                os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _is_terminal(descriptor: int) -> bool:
    """Return whether it is a terminal, also one that has gone, which `isatty` denies."""
    try:
        return stat.S_ISCHR(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _end_unless_training(number: int, _frame: object) -> None:
    leave_terminal(number)
    if not PROCESS.training:
        sys.exit(TERMINATED)


def _listen(reader: int, numbers: frozenset[int]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in numbers:
                leave_terminal(number[0])
                if not PROCESS.take():
                    os._exit(TERMINATED)
