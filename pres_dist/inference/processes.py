"""Worker processes on this machine that share the work on a trained run.

The main process has a pipe to each worker. A worker that dies, even while it sends a result,
closes its end of the pipe, which the main process detects. A worker that hangs is detected by
its missing heartbeats. If the main process dies, its workers exit. No shared memory is used, so
none can leak.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Lock, Thread

import numpy as np
import torch

from pres_dist.errors import PresDistError, WorkerLostError
from pres_dist.inference.live import LiveRun
from pres_dist.inference.sharing import Alone, Opening, Task, lost
from pres_dist.inference.walker import Report, quiet
from pres_dist.parallel.failure_detector import heartbeats

_AHEAD = 2
"""Most tasks per worker that are sent and not yet yielded, which bounds memory use."""
_SECONDS_BETWEEN_REPORTS = 0.1
_PATIENCE_S = 10.0
_BEAT_S = 5.0
_SILENT_S = 60.0
"""Seconds without a heartbeat after which a worker is considered lost."""


class Ready:
    """Message of a worker that has opened the run."""


class Alive:
    """Heartbeat of a worker."""


@dataclass(frozen=True)
class Swept:
    """Progress of a worker's memory, with the arguments of `Report`."""

    events: int
    done: int
    total: int


Answer = Ready | Alive | Swept | np.ndarray


@dataclass
class _Member:
    """Handle of a worker in the main process; `idle` while the worker waits for a task."""

    number: int
    process: SpawnProcess
    connection: Connection
    idle: bool = False
    place: int = -1
    heard: float = field(default_factory=time.monotonic)

    def send(self, place: int, task: Task) -> None:
        self.place, self.idle, self.heard = place, False, time.monotonic()
        try:
            self.connection.send(task)
        except ConnectionError:
            raise self._lost() from None

    def receive(self) -> Answer:
        """Receive a message of the worker; raise the error if it failed."""
        self.heard = time.monotonic()
        try:
            said: Answer | PresDistError = self.connection.recv()
        except (EOFError, ConnectionError):
            raise self._lost() from None
        if isinstance(said, PresDistError):
            raise said
        self.idle = not isinstance(said, Alive | Swept)
        return said

    def check(self) -> None:
        """Raise WorkerLostError if no message has arrived for `_SILENT_S` seconds."""
        if time.monotonic() - self.heard > _SILENT_S:
            how = f"has given no sign of life for {_SILENT_S:g} s: stopped or hung"
            raise lost(self.number, how)

    def _lost(self) -> WorkerLostError:
        self.process.join(_PATIENCE_S)
        code = self.process.exitcode
        if code is not None and code < 0:
            return lost(self.number, f"was ended by {signal.Signals(-code).name}")
        return lost(self.number, f"ended with exit code {code}")


class Processes:
    """Context manager that computes tasks in processes.

    Processes start with the first tasks and end with the block. They divide torch's threads of
    the main process among themselves. A single task is computed in the main process.

    Args:
        live: the run as opened in the main process.
        num_workers: maximum number of processes.
    """

    def __init__(self, live: LiveRun, num_workers: int) -> None:
        self._alone = Alone(live)
        self._opening = Opening.of(live, max(torch.get_num_threads() // num_workers, 1))
        self._num_workers = num_workers
        self._members: list[_Member] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.process.kill()  # safe: a worker writes no files
        for member in self._members:
            member.process.join()
            member.connection.close()
        self._members = []

    def __call__(self, tasks: Iterable[Task], report: Report = quiet) -> Iterator[np.ndarray]:
        """Yield the result of each task, in the order of the tasks."""
        ahead = iter(tasks)
        first = list(islice(ahead, self._num_workers))
        if len(first) < 2:
            yield from self._alone(first, report)
            return
        while len(self._members) < len(first):
            self._members.append(_start(len(self._members), self._opening))
        yield from self._in_order(enumerate(chain(first, ahead)), report)

    def _in_order(self, tasks: Iterator[tuple[int, Task]], report: Report) -> Iterator[np.ndarray]:
        """Yield results in the order of the tasks, whichever worker finishes first."""
        given = handed_on = 0
        results: dict[int, np.ndarray] = {}
        while True:
            idle = [member for member in self._members if member.idle]
            most = handed_on + _AHEAD * len(self._members) - given
            for member, (place, task) in zip(idle, islice(tasks, most), strict=False):
                member.send(place, task)
                given += 1
            if given == handed_on and any(member.idle for member in self._members):
                return
            busy = [member for member in self._members if not member.idle]
            heard = wait([member.connection for member in busy], timeout=_BEAT_S)
            for member in busy:
                if member.connection not in heard:
                    member.check()
                    continue
                said = member.receive()
                if isinstance(said, np.ndarray):
                    results[member.place] = said
                elif isinstance(said, Swept) and not handed_on:
                    report(said.events, said.done, said.total)
            while handed_on in results:
                yield results.pop(handed_on)
                handed_on += 1


def _start(number: int, opening: Opening) -> _Member:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, opening, _BEAT_S), daemon=True)
    resource_tracker.ensure_running()  # otherwise `start` does that, which unblocks signals
    # A process inherits its parent's signal mask: only the main process handles Ctrl-C. A SIGTERM
    # waits until the process has read its arguments, which it would miss with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Member(number, process, ours)


def _work(connection: Connection, opening: Opening, beat_s: float) -> None:
    """Compute tasks in a worker until the pipe is closed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    Thread(target=_end_with_command, name="command", daemon=True).start()
    lock, last = Lock(), 0.0

    def say(what: Answer | PresDistError) -> None:
        with lock:  # heartbeats are sent by a thread of their own
            connection.send(what)

    def report(events: int, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            say(Swept(events, done, total))

    working = partial(heartbeats, partial(say, Alive()), beat_s)
    with suppress(EOFError, ConnectionError):
        try:
            with working():
                live = opening.open()
            say(Ready())
            while True:
                task: Task = connection.recv()
                with working():
                    values = task.compute(live, report)
                say(values)
        except PresDistError as error:
            say(error)


def _end_with_command() -> None:
    """Exit this worker as soon as the main process dies, even in the middle of a long task."""
    command = multiprocessing.parent_process()
    if command is not None:
        command.join()
        os._exit(1)
