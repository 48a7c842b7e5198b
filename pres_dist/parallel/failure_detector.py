"""Failure detection: heartbeats of busy workers, and names of workers that do not answer.

A collective that times out does not report which worker it waited for. And while one worker
computes something for all, the others cannot see whether it is still running. Workers exchange
both facts through the key-value store of their rendezvous. The process that hosts the store may
have stopped. A request to it then never returns and has no timeout, so requests run in a thread.
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

Result = TypeVar("Result")

LONGEST_S = 3600.0
"""Longest time in seconds that one worker may compute while all others wait."""
_BEATS = 4
"""Heartbeats per timeout."""
_GRACE_S = 5.0
"""Longest delay in seconds between the first and the last worker that notice a missing one."""


class FailureDetector:
    """Failure detector of a group of workers.

    Args:
        store: shared by all of the workers.
        group: their gloo group, with a timeout of `LONGEST_S`.
        rank: of this worker.
        size: number of workers.
        timeout_s: seconds without a heartbeat after which a worker counts as lost.
    """

    def __init__(
        self,
        store: dist.Store,
        group: dist.ProcessGroup,
        rank: int,
        size: int,
        timeout_s: float,
    ) -> None:
        clone = getattr(store, "clone", None)  # own connection, if the store has any
        self._store = store if clone is None else clone()
        self._group, self._rank, self._size = group, rank, size
        self.timeout_s = timeout_s
        self._pieces = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Send heartbeats while the block computes something for all."""
        key = self._next_piece()
        try:
            # RuntimeError: the store is gone, and with it the readers of heartbeats.
            with heartbeats(
                lambda: self._store.add(key, 1), self.timeout_s / _BEATS, gone=RuntimeError
            ):
                yield
        finally:
            dist.broadcast(torch.zeros(1), group_src=self._rank, group=self._group)

    def wait_for(self, worker: int) -> None:
        """Wait until the worker's `working` block has ended.

        Raises:
            WorkerLostError: the worker sent no heartbeat for too long, or worked too long.
            RuntimeError: raised by gloo if the worker has died.
        """
        key, piece_s = self._next_piece(), self.timeout_s / _BEATS
        work = dist.broadcast(torch.zeros(1), group_src=worker, group=self._group, async_op=True)
        started = heard = time.monotonic()
        beats = 0
        while True:
            try:
                work.wait(timedelta(seconds=piece_s))
                return
            except RuntimeError:
                if work.is_completed():  # it has failed; otherwise only the wait has timed out
                    raise
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
        """Return the workers that have not noticed, as this one has, that a worker is missing."""

        def not_late() -> list[int]:
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

        found = _answer(not_late, 2 * _GRACE_S)
        return [0] if found is None else found  # no answer: worker 0 hosts the store

    def _next_piece(self) -> str:
        """Return the heartbeat key of the next piece of work."""
        self._pieces += 1
        return f"beats-{self._pieces}"


def _answer(ask: Callable[[], Result], seconds: float) -> Result | None:
    """Return the result of a call to the store; None if it is too slow or the store is gone."""
    answers: list[Result] = []
    ended = Event()

    def run() -> None:
        with suppress(RuntimeError):
            answers.append(ask())
        ended.set()

    Thread(target=run, name="ask", daemon=True).start()
    ended.wait(seconds)
    return answers[0] if answers else None


@contextmanager
def heartbeats(
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


def lost(workers: list[int], timeout_s: float) -> WorkerLostError:
    """Return the error for workers that timed out."""
    names = ", ".join(map(str, workers))
    who = f"worker {names} has" if len(workers) == 1 else f"one or several of workers {names} have"
    return WorkerLostError(
        f"{who} not answered for {timeout_s:g} s (parallel.timeout_s): stopped, hung or "
        "disconnected; the run can resume from its newest checkpoint"
    )


@contextmanager
def naming_lost_workers(detector: FailureDetector | None) -> Iterator[None]:
    """Turn the error of a failed collective into one that names the lost workers.

    Raises:
        WorkerLostError: in place of the collective's error.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        # Gloo raises plain RuntimeErrors, which only their text tells from any other.
        of_a_collective = (
            isinstance(error, dist.DistError) or "gloo" in text or "Connection closed by" in text
        )
        if detector is None or not of_a_collective:
            raise
        missing = detector.missing() if "imed out" in text or "imeout" in text else []
        if missing:
            raise lost(missing, detector.timeout_s) from error
        raise WorkerLostError(
            "the connection to another worker broke: it has failed or given up; "
            "the run can resume from its newest checkpoint"
        ) from error
