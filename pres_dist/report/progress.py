"""Progress reporters of a run: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import logging
import os
import sys

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from pres_dist.records import EpochRecord, Results
from pres_dist.report.result_tables import (
    aligned,
    duration,
    epoch_line,
    results_rows,
    results_summary,
    shortcomings,
)

LINES_PER_EPOCH = 10
_log = logging.getLogger(__name__)


class Progress:
    """Progress reporter of a run; epochs are counted from 1. This one reports nothing."""

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        """Report the start of a run, or of the rest of a resumed one."""

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        """Report a trained temporal batch; `events_done` counts within the epoch."""

    def epoch(self, record: EpochRecord) -> None:
        """Report the end of an epoch; `record` is its line of metrics.jsonl."""

    def note(self, text: str) -> None:
        """Report a line of text."""

    def results(self, results: Results) -> None:
        """Report the final metrics, as in results.json."""

    def stop(self) -> None:
        """End the report of a run, also after an error; may be called more than once."""


def make_progress() -> Progress:
    """Return a progress bar if standard output is a terminal, else a printer of lines.

    Under torchrun, only rank 0 reports progress.
    """
    if os.environ.get("RANK", "0") != "0":
        return Progress()
    return TerminalProgress() if sys.stdout.isatty() else LineProgress()


class LogProgress(Progress):
    """Reporter for the Python API: logs notes, epochs and results at level INFO."""

    def __init__(self) -> None:
        self._total_epochs = 0

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        """Keep the number of epochs."""
        self._total_epochs = total_epochs

    def epoch(self, record: EpochRecord) -> None:
        """Log a line."""
        self.note(epoch_line(record, self._total_epochs))

    def note(self, text: str) -> None:
        """Log a line."""
        _log.info("%s", text)

    def results(self, results: Results) -> None:
        """Log the table of metrics, and warnings about them."""
        for line in (*aligned(results_rows(results)), results_summary(results)):
            self.note(line)
        for line in shortcomings(results):
            self.warn(line)

    def warn(self, text: str) -> None:
        """Report a line that starts with `warning: `."""
        _log.warning("%s", text.removeprefix("warning: "))


class LineProgress(LogProgress):
    """Reporter that prints a line for every tenth of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._events_per_epoch = 1
        self._shown = (0, 0)

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        """Keep the numbers of epochs and events."""
        super().start(total_epochs, events_per_epoch)
        self._events_per_epoch = max(events_per_epoch, 1)

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        """Print a line if another tenth of the epoch is done."""
        tenth = events_done * LINES_PER_EPOCH // self._events_per_epoch
        if (epoch, tenth) <= self._shown or tenth == 0:
            return
        self._shown = (epoch, tenth)
        left = max(self._events_per_epoch - events_done, 0)
        self.note(
            f"epoch {epoch}/{self._total_epochs}  {events_done / self._events_per_epoch:4.0%}  "
            f"loss {loss:.4f}  {events_per_second:,.0f} events/s  "
            f"{duration(left / events_per_second if events_per_second else None)} left in epoch"
        )

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    warn = note


class TerminalProgress(Progress):
    """Reporter with a bar for the current epoch and a line for every completed one."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[rate]} events/s"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", visible=False, epoch=0, epochs=0, loss="", rate="")
        self._epoch = 0

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        """Show an empty bar."""
        self._bar.update(self._task, total=events_per_epoch, epochs=total_epochs)
        self._bar.start()

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        """Advance the bar."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._bar.reset(self._task)
            self._bar.update(self._task, visible=True, epoch=epoch)
        self._bar.update(
            self._task, completed=events_done, loss=f"{loss:.4f}", rate=f"{events_per_second:,.0f}"
        )

    def epoch(self, record: EpochRecord) -> None:
        """Replace the bar by a line."""
        self._bar.update(self._task, visible=False, refresh=True)
        self.note(epoch_line(record, self._bar.tasks[0].fields["epochs"]))

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False)

    def results(self, results: Results) -> None:
        """Print the table of metrics."""
        self._bar.stop()
        header, *rows = results_rows(results)
        table = Table(header[0], title="Results", title_justify="left")
        for name in header[1:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)
        self.note(results_summary(results))
        for line in shortcomings(results):
            self.note(line)

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()
