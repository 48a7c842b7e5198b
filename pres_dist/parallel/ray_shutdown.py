"""Forward the launcher's SIGTERM to workers on Ray, which does not forward it itself.

A file in a folder that the launcher and all workers share represents the signal.
"""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pres_dist.parallel.shutdown import PROCESS_SHUTDOWN

END_S = 20.0
"""Seconds that workers have to end after SIGTERM; clouds and Kubernetes allow thirty."""
SHUTDOWN_FILE = "end"
_POLL_S = 0.2


@contextmanager
def forward_shutdown(storage: Path) -> Iterator[None]:
    """Forward a shutdown request to workers; end this process if they do not end in time."""
    (storage / SHUTDOWN_FILE).unlink(missing_ok=True)
    over = threading.Event()

    def watch() -> None:
        while not PROCESS_SHUTDOWN.asked:
            if over.wait(_POLL_S):
                return
        (storage / SHUTDOWN_FILE).touch()
        if not over.wait(END_S):
            _thread.interrupt_main(signal.SIGTERM)

    thread = threading.Thread(target=watch, name="end", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def watch_for_shutdown(storage: Path) -> None:
    """Watch, in a worker, for the launcher's shutdown request."""

    def wait() -> None:
        while not (storage / SHUTDOWN_FILE).exists():
            time.sleep(_POLL_S)
        PROCESS_SHUTDOWN.receive()

    threading.Thread(target=wait, name="end", daemon=True).start()
