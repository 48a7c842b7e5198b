"""What workers tell one another besides collectives: that they are at work, and who is late.

A collective that waits too long does not know for whom, and nobody knows of a worker that
computes something alone for all whether it still does. Both are told through the key-value
store at which the workers met. It may be kept by a process that has stopped, which then
answers nothing and cannot be given up waiting for: whoever asks does so in a thread.

Source of the idea: heartbeats, as in any failure detector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread

import torch.distributed as dist

from pres_dist.errors import WorkerLostError

LONGEST_S = 3600.0
"""No worker may compute longer for all others, however busy it is."""
_BEATS = 4
"""Signs of life within a timeout."""
_GRACE_S = 5.0
"""How much later than the first the last worker may find that somebody is missing."""


class Lookout:
    """Tells whether others are at work.

    Args:
        store: that all of them share.
        rank: of this worker.
        size: number of workers.
        timeout_s: seconds without a sign of life after which a worker is given up.
    """

    def __init__(self, store: dist.Store, rank: int, size: int, timeout_s: float) -> None:
        clone = getattr(store, "clone", None)  # a connection of its own, where there are any
        self._store = store if clone is None else clone()
        self._rank, self._size, self.timeout_s = rank, size, timeout_s
        self._pieces = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Give signs of life while the block computes something for all."""
        number, ended = self._next_piece(), Event()

        def beat() -> None:
            while not ended.wait(self.timeout_s / _BEATS):
                self._store.add(f"beats-{number}", 1)

        thread = Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._store.set(f"done-{number}", "")

    def wait_for(self, worker: int) -> None:
        """Wait until the worker's `working` has ended.

        Raises:
            WorkerLostError: it gave no sign of life for too long, or has worked too long.
        """
        number, done = self._next_piece(), Event()
        started = heard = time.monotonic()

        def listen() -> None:
            nonlocal heard
            beats = 0
            with suppress(RuntimeError):  # the store is gone: nothing is heard any more
                while not done.is_set():
                    if self._comes(f"done-{number}", self.timeout_s / _BEATS):
                        done.set()
                    elif (now := self._store.add(f"beats-{number}", 0)) > beats:
                        beats, heard = now, time.monotonic()

        Thread(target=listen, name="listen", daemon=True).start()
        while not done.wait(self.timeout_s / _BEATS):
            if time.monotonic() - heard > self.timeout_s:
                done.set()
                raise lost([worker], self.timeout_s)
            if time.monotonic() - started > LONGEST_S:
                done.set()
                raise WorkerLostError(
                    f"worker {worker} may work for at most {LONGEST_S:g} s while all others wait, "
                    "and has not finished"
                )

    def missing(self) -> list[int]:
        """Workers that have not found, as this one has, that somebody is missing."""
        found = list(range(self._size))

        def ask() -> None:
            self._store.set(f"late-{self._rank}", "")
            end = time.monotonic() + _GRACE_S
            for rank in range(self._size):
                if self._comes(f"late-{rank}", max(end - time.monotonic(), 0.01)):
                    found.remove(rank)

        if _ends(ask, 2 * _GRACE_S):
            return found
        return [0]  # nobody answers at the store, which worker 0 keeps

    def _comes(self, key: str, seconds: float) -> bool:
        try:
            self._store.wait([key], timedelta(seconds=seconds))
        except dist.DistStoreError:
            return False
        return True

    def _next_piece(self) -> int:
        self._pieces += 1
        return self._pieces


def lost(workers: list[int], timeout_s: float) -> WorkerLostError:
    """The error that names who has not answered for so long."""
    names = ", ".join(map(str, workers))
    who = f"worker {names} has" if len(workers) == 1 else f"one or several of workers {names} have"
    return WorkerLostError(
        f"{who} not answered for {timeout_s:g} s (parallel.timeout_s): stopped, hung or cut off; "
        "the run can go on from its newest checkpoint"
    )


@contextmanager
def naming_the_lost(lookout: Lookout | None) -> Iterator[None]:
    """Turn what a collective raises when somebody is missing into an error that says who.

    Raises:
        WorkerLostError: instead of it.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if lookout is None or not _of_a_collective(error, text):
            raise
        missing = lookout.missing() if "imed out" in text or "imeout" in text else []
        if missing:
            raise lost(missing, lookout.timeout_s) from error
        raise WorkerLostError(
            "the connection to another worker broke: it has died or given up; "
            "the run can go on from its newest checkpoint"
        ) from error


def _of_a_collective(error: RuntimeError, text: str) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in text or "Connection closed by" in text


def _ends(what: Callable[[], None], seconds: float) -> bool:
    """Whether a call comes to its end in time; it is left alone otherwise."""
    ended = Event()

    def run() -> None:
        with suppress(RuntimeError):
            what()
            ended.set()

    Thread(target=run, daemon=True).start()
    return ended.wait(seconds)
