"""The notice that a run shall end soon: SIGTERM, as schedulers and clouds give it.

The first SIGTERM asks workers that train to finish their step and leave a checkpoint; before
and after that there is nothing to save, and it ends the process. The second one ends it at
once. Launchers often pass on a signal that the workers get themselves
as well, so that what follows within two seconds belongs to the first.
"""

from __future__ import annotations

import os
import signal
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
    before = signal.signal(signal.SIGTERM, _end_unless_training)
    signal.siginterrupt(signal.SIGTERM, False)
    woken_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken_before)
        signal.signal(signal.SIGTERM, before)
        os.close(writer)
        PROCESS.forget()


def _end_unless_training(*_: object) -> None:
    if not PROCESS.training:
        sys.exit(TERMINATED)


def _listen(reader: int) -> None:
    with os.fdopen(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] == signal.SIGTERM and not PROCESS.take():
                os._exit(TERMINATED)
