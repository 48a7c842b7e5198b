"""Progress of a Ray worker, shown by the process that launched it.

The worker's calls pass through a mailbox actor, in order and without loss, so the launcher's
console looks as if it trained itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from pres_dist.records import EpochRecord, Results
from pres_dist.report.progress import Progress

Call = tuple[str, tuple[Any, ...]]
"""Name of a method of `Progress`, and its arguments."""

INTERVAL_S = 0.1
"""Seconds between sends of collected `batch` calls."""


class Mailbox:
    """Queue of calls for the launcher, which makes it a Ray actor.

    It is not an asynchronous actor, because those may run calls out of order.
    """

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def put(self, calls: Sequence[Call]) -> None:
        """Append calls."""
        self._calls.extend(calls)

    def take(self) -> list[Call]:
        """Return all calls since the last time."""
        calls, self._calls = self._calls, []
        return calls


class RelayProgress(Progress):
    """`Progress` that forwards every call.

    Args:
        send: forwards calls to the process that shows them; must keep their order.
    """

    def __init__(self, send: Callable[[list[Call]], None]) -> None:
        self._send = send
        self._calls: list[Call] = []
        self._sent = 0.0

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        """Forward the start of a run."""
        self._add("start", total_epochs, events_per_epoch)

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        """Forward a batch, together with others that follow it closely."""
        hurry = time.monotonic() - self._sent >= INTERVAL_S
        self._add("batch", epoch, events_done, loss, events_per_second, hurry=hurry)

    def epoch(self, record: EpochRecord) -> None:
        """Forward the end of an epoch."""
        self._add("epoch", record)

    def note(self, text: str) -> None:
        """Forward a line of text."""
        self._add("note", text)

    def results(self, results: Results) -> None:
        """Forward the final metrics."""
        self._add("results", results)

    def stop(self) -> None:
        """Send the remaining calls; the launcher stops its own console."""
        self._flush()

    def _add(self, method: str, *arguments: Any, hurry: bool = True) -> None:
        self._calls.append((method, arguments))
        if hurry:
            self._flush()

    def _flush(self) -> None:
        if self._calls:
            self._send(self._calls)
        self._calls, self._sent = [], time.monotonic()


class RelayHandler(logging.Handler):
    """Log handler that shows a worker's warnings on the launcher's console."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Forward a record as a line of text."""
        self._progress.note(f"{record.levelname.lower()}: {self.format(record)}")


def replay(calls: Sequence[Call], console: Progress) -> None:
    """Repeat the calls on the launcher's console."""
    for method, arguments in calls:
        getattr(console, method)(*arguments)
