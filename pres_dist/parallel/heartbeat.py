"""Heartbeats from a background thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


@contextmanager
def beating(
    beat: Callable[[], object], every_s: float, gone: type[Exception] = ConnectionError
) -> Iterator[None]:
    """Call `beat` periodically, in a thread, until the block ends.

    Args:
        beat: sends a heartbeat.
        every_s: seconds between calls.
        gone: exception of `beat` for a receiver that is gone; it ends the calls.
    """
    ended = Event()

    def run() -> None:
        with suppress(gone):
            while not ended.wait(every_s):
                beat()

    thread = Thread(target=run, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
