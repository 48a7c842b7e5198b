"""Progress of long data commands: a bar on a terminal, periodic lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int, int], None]
"""Called with the events so far, the work done and the total work, these in the same unit."""

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def show_progress(title: str, unit: str = "events") -> Iterator[Report]:
    """Show a command's progress on stderr, with its number of events or of other units."""
    if not sys.stderr.isatty():
        yield _line_printer(title, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}% {task.fields[events]:,} " + unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, events=0)

        def report(events: int, done: int, total: int) -> None:
            progress.update(task, events=events, completed=done, total=total)

        yield report


def _line_printer(title: str, unit: str) -> Report:
    last = time.monotonic()

    def report(events: int, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{title}: {done / total:.0%}, {events:,} {unit}", file=sys.stderr)

    return report
