"""Run calls in background threads while training continues."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread


class Background:
    """Queue of background calls that run in order; none runs after one that failed.

    The threads are daemons because they may wait for a failed worker.

    Args:
        name: name of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: list[Future[None]] = []

    def begin(self, what: Callable[[], object]) -> None:
        """Queue a call that runs after all earlier calls, and only if they succeed."""
        before, ended = self._under_way[-1:], Future[None]()

        def run() -> None:
            try:
                for each in before:
                    each.result()
                what()
            except BaseException as error:  # re-raised by `wait`
                ended.set_exception(error)
            else:
                ended.set_result(None)

        Thread(target=run, name=self._name, daemon=True).start()
        # Only now: `close` would wait in vain for a call whose thread could not start.
        self._under_way.append(ended)

    def wait(self) -> None:
        """Wait for all queued calls; re-raise the exception of a failed one."""
        under_way, self._under_way = self._under_way, []
        for each in under_way:
            each.result()

    def close(self, timeout_s: float) -> None:
        """Wait for all queued calls, successful or not, but at most `timeout_s` seconds."""
        wait(self._under_way, timeout_s)
