"""Progress of a Ray worker, shown by the process that launched it.

The worker's calls travel through a mailbox actor, in order and none left out, so that
the launcher's console looks as if it trained itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pres_dist.report.progress import Progress

Call = tuple[str, tuple[Any, ...]]
"""Name of a method of Progress, and its arguments."""

INTERVAL_S = 0.1
"""Batches are sent together, so often."""


class Mailbox:
    """Keeps calls until the launcher takes them; made a Ray actor by the launcher.

    Not an asynchronous actor: those may run calls in another order than they were made.
    """

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def put(self, calls: Sequence[Call]) -> None:
        """Add calls, behind those that are there."""
        self._calls.extend(calls)

    def take(self) -> list[Call]:
        """All calls that came since the last time."""
        calls, self._calls = self._calls, []
        return calls


class RelayProgress:
    """Follows a run by sending every call on.

    Args:
        send: takes calls to whoever shows them; must keep their order.
    """

    def __init__(self, send: Callable[[list[Call]], None]) -> None:
        self._send = send
        self._calls: list[Call] = []
        self._sent = 0.0

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        self._add("start", total_epochs, events_per_epoch)

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        hurry = time.monotonic() - self._sent >= INTERVAL_S
        self._add("batch", epoch, events_done, loss, events_per_second, hurry=hurry)

    def epoch(self, record: Mapping[str, Any]) -> None:
        self._add("epoch", dict(record))

    def note(self, text: str) -> None:
        self._add("note", text)

    def results(self, results: Mapping[str, Any]) -> None:
        self._add("results", dict(results))

    def stop(self) -> None:
        """Send what is left; the launcher stops its own console."""
        self._flush()

    def _add(self, method: str, *arguments: Any, hurry: bool = True) -> None:
        self._calls.append((method, arguments))
        if hurry:
            self._flush()

    def _flush(self) -> None:
        if self._calls:
            self._send(self._calls)
        self._calls, self._sent = [], time.monotonic()


def replay(calls: Sequence[Call], console: Progress) -> None:
    """Make the calls on the launcher's console."""
    for method, arguments in calls:
        getattr(console, method)(*arguments)
