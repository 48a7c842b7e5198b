"""Signs of life while something else goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


@contextmanager
def beating(
    beat: Callable[[], object], every_s: float, gone: type[Exception] = ConnectionError
) -> Iterator[None]:
    """Call `beat` every so often, in a thread, until the block ends.

    Args:
        beat: gives a sign of life.
        every_s: seconds between calls.
        gone: what it raises once nobody listens, which ends the calls.
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
