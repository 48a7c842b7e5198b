"""Calls that are made in a thread while training goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread


class Background:
    """Makes calls one after the other, and none after one that has failed.

    The threads do not keep the process alive: they may wait for a worker that is lost.

    Args:
        name: of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: list[Future[None]] = []

    def begin(self, what: Callable[[], None]) -> None:
        """Have it called after what was begun before, and not if that fails."""
        before, ended = self._under_way[-1:], Future[None]()

        def run() -> None:
            try:
                for each in before:
                    each.result()
                what()
            except BaseException as error:  # handed on, by `wait`
                ended.set_exception(error)
            else:
                ended.set_result(None)

        self._under_way.append(ended)
        Thread(target=run, name=self._name, daemon=True).start()

    def wait(self) -> None:
        """Until all that was begun has ended; raises what one of the calls raised."""
        under_way, self._under_way = self._under_way, []
        for each in under_way:
            each.result()

    def close(self, timeout_s: float) -> None:
        """Let what was begun come to its end, whatever that is; not for longer."""
        wait(self._under_way, timeout_s)
