"""What workers tell one another besides collectives: that they are at work, and who is late.

A collective that waits too long does not know for whom, and nobody knows of a worker that
computes something alone for all whether it still does. Both are told through the key-value
store at which the workers met. It may be kept by a process that has stopped, which then
answers nothing and cannot be given up waiting for: whoever asks does so in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import TypeVar

import torch
import torch.distributed as dist

from pres_dist.errors import WorkerLostError
from pres_dist.parallel.heartbeat import beating

Result = TypeVar("Result")

LONGEST_S = 3600.0
"""No worker may compute longer for all others, however busy it is."""
_BEATS = 4
"""Signs of life within a timeout."""
_GRACE_S = 5.0
"""How much later than the first the last worker may find that somebody is missing."""


class FailureDetector:
    """Tells whether others are at work.

    Args:
        store: that all of them share.
        group: of gloo, theirs, with a timeout of `LONGEST_S`.
        rank: of this worker.
        size: number of workers.
        timeout_s: seconds without a sign of life after which a worker is given up.
    """

    def __init__(
        self,
        store: dist.Store,
        group: dist.ProcessGroup,
        rank: int,
        size: int,
        timeout_s: float,
    ) -> None:
        clone = getattr(store, "clone", None)  # a connection of its own, where there are any
        self._store = store if clone is None else clone()
        self._group, self._rank, self._size = group, rank, size
        self.timeout_s = timeout_s
        self._pieces = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Give signs of life while the block computes something for all."""
        key = self._next_piece()
        try:
            # RuntimeError: the store is gone, and so are those who listen.
            with beating(
                lambda: self._store.add(key, 1), self.timeout_s / _BEATS, gone=RuntimeError
            ):
                yield
        finally:
            dist.broadcast(torch.zeros(1), group_src=self._rank, group=self._group)

    def wait_for(self, worker: int) -> None:
        """Wait until the worker's `working` has ended.

        Raises:
            WorkerLostError: it gave no sign of life for too long, or has worked too long.
            RuntimeError: of gloo, it has died.
        """
        key, piece_s = self._next_piece(), self.timeout_s / _BEATS
        work = dist.broadcast(torch.zeros(1), group_src=worker, group=self._group, async_op=True)
        started = heard = time.monotonic()
        beats = 0
        while not _comes_to_end(work, piece_s):
            now = _answer(lambda: self._store.add(key, 0), piece_s)
            if now is not None and now > beats:
                beats, heard = now, time.monotonic()
            if time.monotonic() - heard > self.timeout_s:
                raise lost([worker], self.timeout_s)
            if time.monotonic() - started > LONGEST_S:
                raise WorkerLostError(
                    f"worker {worker} may work for at most {LONGEST_S:g} s while all others wait, "
                    "and has not finished"
                )

    def missing(self) -> list[int]:
        """Workers that have not found, as this one has, that somebody is missing."""
        found = _answer(self._not_late, 2 * _GRACE_S)
        return [0] if found is None else found  # worker 0 keeps the store, where nobody answers

    def _not_late(self) -> list[int]:
        self._store.set(f"late-{self._rank}", "")
        end = time.monotonic() + _GRACE_S
        found = []
        for rank in range(self._size):
            try:
                left_s = max(end - time.monotonic(), 0.01)
                self._store.wait([f"late-{rank}"], timedelta(seconds=left_s))
            except dist.DistStoreError:
                found.append(rank)
        return found

    def _next_piece(self) -> str:
        """The key of the signs of life that belong to the next piece of work."""
        self._pieces += 1
        return f"beats-{self._pieces}"


def _comes_to_end(work: dist.Work, seconds: float) -> bool:
    """Whether a collective ends in time; RuntimeError when it fails, as of a worker that died."""
    try:
        work.wait(timedelta(seconds=seconds))
    except RuntimeError:
        if work.is_completed():
            raise
        return False
    return True


def _answer(ask: Callable[[], Result], seconds: float) -> Result | None:
    """What a call to the store returns; None when that takes too long, or the store is gone."""
    answers: list[Result] = []
    ended = Event()

    def run() -> None:
        with suppress(RuntimeError):
            answers.append(ask())
        ended.set()

    Thread(target=run, name="ask", daemon=True).start()
    ended.wait(seconds)
    return answers[0] if answers else None


def lost(workers: list[int], timeout_s: float) -> WorkerLostError:
    """The error that names who has not answered for so long."""
    names = ", ".join(map(str, workers))
    who = f"worker {names} has" if len(workers) == 1 else f"one or several of workers {names} have"
    return WorkerLostError(
        f"{who} not answered for {timeout_s:g} s (parallel.timeout_s): stopped, hung or cut off; "
        "the run can go on from its newest checkpoint"
    )


@contextmanager
def naming_the_lost(detector: FailureDetector | None) -> Iterator[None]:
    """Turn what a collective raises when somebody is missing into an error that says who.

    Raises:
        WorkerLostError: instead of it.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if detector is None or not _of_a_collective(error, text):
            raise
        missing = detector.missing() if "imed out" in text or "imeout" in text else []
        if missing:
            raise lost(missing, detector.timeout_s) from error
        raise WorkerLostError(
            "the connection to another worker broke: it has died or given up; "
            "the run can go on from its newest checkpoint"
        ) from error


def _of_a_collective(error: RuntimeError, text: str) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in text or "Connection closed by" in text
