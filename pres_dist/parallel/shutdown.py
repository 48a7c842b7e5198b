"""Graceful shutdown on SIGTERM, which schedulers and clouds send before they end a process.

SIGHUP, from a closed terminal or a broken connection, has the same effect, unless it is ignored
as under `nohup`. Further output to that terminal is dropped.

The first SIGTERM asks training workers to finish their step and write a checkpoint. Before
and after training there is nothing to save, and it ends the process. A second one ends the
process at once. Launchers often forward a signal that the workers also receive directly, so
repeats within two seconds belong to the first.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pres_dist.parallel.signals import TERMINATED, end, handling, leave_terminal

_SAME_REQUEST_S = 2.0


@dataclass
class ShutdownRequest:
    """Shutdown request of a run.

    Attributes:
        asked: True once this process has received the request.
        agreed: True once all workers have agreed, at the same step, to end.
        training: True while steps run; the request is then handled after a step.
    """

    asked: bool = False
    agreed: bool = False
    training: bool = False
    _asked_at: float = 0.0

    def receive(self) -> bool:
        """Record a SIGTERM; return True for the request, False for one to end at once."""
        if not self.asked:
            self.asked, self._asked_at = True, time.monotonic()
        return time.monotonic() - self._asked_at < _SAME_REQUEST_S

    @contextmanager
    def checked_each_step(self) -> Iterator[None]:
        """Mark the block as one that checks for the request after every step."""
        self.training = True
        try:
            yield
        finally:
            self.training = False

    def clear(self) -> None:
        """Drop the request."""
        self.asked = self.agreed = False


PROCESS_SHUTDOWN = ShutdownRequest()
"""Shutdown request of this process, shared by all that runs in it."""


@contextmanager
def graceful_shutdown() -> Iterator[None]:
    """Handle SIGTERM as a shutdown request; do nothing outside the main thread.

    Python handles signals between two instructions of the main thread, which may be waiting
    for another worker. So a separate thread reads them from a pipe as they arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with handling(_end_unless_training) as numbers:
        for number in numbers:
            signal.siginterrupt(number, False)
        woken_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(
            target=_listen, args=(reader, frozenset(numbers)), name="signals", daemon=True
        ).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            os.close(writer)
            PROCESS_SHUTDOWN.clear()


@contextmanager
def announced_shutdown() -> Iterator[None]:
    """Record the first SIGTERM as a shutdown request; only the second unwinds the stack."""

    def receive(number: int, _frame: object) -> None:
        leave_terminal(number)
        if not PROCESS_SHUTDOWN.receive():
            end(number)

    with handling(receive):
        try:
            yield
        finally:
            PROCESS_SHUTDOWN.clear()


def _end_unless_training(number: int, _frame: object) -> None:
    if not PROCESS_SHUTDOWN.training:
        end(number)


def _listen(reader: int, numbers: frozenset[int]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in numbers:
                leave_terminal(number[0])
                if not PROCESS_SHUTDOWN.receive():
                    os._exit(TERMINATED)
