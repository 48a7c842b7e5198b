"""Progress reporters of a run: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from pres_dist.records import EVALUATED_SPLITS, EpochRecord, Metrics, Results
from pres_dist.report.comparison import aligned
from pres_dist.report.metric_names import NAMES, metrics_in
from pres_dist.report.shortcomings import shortcomings

LINES_PER_EPOCH = 10
NOTHING = "-"


class Progress(Protocol):
    """Progress reporter of a run; epochs are counted from 1."""

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        """Report the start of a run, or of the rest of a resumed one."""

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        """Report a trained temporal batch; `events_done` counts within the epoch."""

    def epoch(self, record: EpochRecord) -> None:
        """Report the end of an epoch; `record` is its line of metrics.jsonl."""

    def note(self, text: str) -> None:
        """Print a line of text."""

    def results(self, results: Results) -> None:
        """Report the final metrics, as in results.json."""

    def stop(self) -> None:
        """End the report of a run, also after an error; may be called more than once."""


def make_progress() -> Progress:
    """Return a progress bar if standard output is a terminal, else a printer of lines.

    Under torchrun, only rank 0 reports progress.
    """
    if os.environ.get("RANK", "0") != "0":
        return SilentProgress()
    return TerminalProgress() if sys.stdout.isatty() else LineProgress()


class SilentProgress:
    """Reporter without output, for tests, for library use and for all workers except rank 0."""

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        pass

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        pass

    def epoch(self, record: EpochRecord) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def results(self, results: Results) -> None:
        pass

    def stop(self) -> None:
        pass


class LineProgress:
    """Reporter that prints a line for every tenth of an epoch."""

    def __init__(self) -> None:
        self._total_epochs = 0
        self._events_per_epoch = 1
        self._shown = (0, 0)

    def start(self, total_epochs: int, events_per_epoch: int) -> None:
        self._total_epochs = total_epochs
        self._events_per_epoch = max(events_per_epoch, 1)

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
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

    def epoch(self, record: EpochRecord) -> None:
        self.note(epoch_line(record, self._total_epochs))

    def note(self, text: str) -> None:
        print(text, flush=True)

    def results(self, results: Results) -> None:
        for line in aligned(results_rows(results)):
            self.note(line)
        self.note(results_summary(results))
        for line in shortcomings(results):
            self.note(line)

    def stop(self) -> None:
        pass


class TerminalProgress:
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
        self._bar.update(self._task, total=events_per_epoch, epochs=total_epochs)
        self._bar.start()

    def batch(self, epoch: int, events_done: int, loss: float, events_per_second: float) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._bar.reset(self._task)
            self._bar.update(self._task, visible=True, epoch=epoch)
        self._bar.update(
            self._task,
            completed=events_done,
            loss=f"{loss:.4f}",
            rate=f"{events_per_second:,.0f}",
        )

    def epoch(self, record: EpochRecord) -> None:
        self._bar.update(self._task, visible=False, refresh=True)
        self.note(epoch_line(record, self._bar.tasks[0].fields["epochs"]))

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def results(self, results: Results) -> None:
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
        self._bar.stop()


def epoch_line(record: EpochRecord, total_epochs: int) -> str:
    """Format an epoch as one line."""
    validation = record.get("validation") or {}
    metrics = [
        f"{NAMES[key]} {number(validation.get(key))}"
        for key in metrics_in([validation])
        if key != "mrr"
    ]
    parts = [
        f"epoch {record.get('epoch', NOTHING)}/{total_epochs}",
        f"loss {number(record.get('loss'))}",
        f"validation {'  '.join(metrics)}",
        f"{number(record.get('events_per_second'), 0)} events/s",
        duration(record.get("seconds")),
    ]
    return "  ".join(parts)


def results_rows(results: Results) -> list[list[str]]:
    """Return validation and test metrics as a table: a header row, then a row for each split.

    Baselines of the test split follow, if there are any. There are inductive columns only if
    inductive metrics were measured.
    """
    parts = [name for name in EVALUATED_SPLITS if results.get(name)]
    metrics = metrics_in([results[name] for name in parts])
    inductive = any(results[name].get("inductive") for name in parts)
    names = [NAMES[metric] for metric in metrics]
    rows = [["", *names, *(f"inductive {name}" for name in names if inductive)]]
    baselines = (results.get("test") or {}).get("baselines") or {}
    measured: dict[str, Metrics] = {**{name: results[name] for name in parts}, **baselines}
    for name, of_all in measured.items():
        groups = [of_all, of_all.get("inductive") or {}][: 1 + inductive]
        rows.append([name, *(number(group.get(metric)) for group in groups for metric in metrics)])
    return rows


def results_summary(results: Results) -> str:
    """Summarize in one line how the results were obtained."""
    parts = []
    if results.get("num_negatives") is not None:
        kind = results.get("negatives", "")
        parts.append(f"MRR among {results['num_negatives']} {kind} negatives".replace("  ", " "))
        parts += [found] if (found := negatives_found(results)) else []
    if results.get("best_epoch") is not None:
        parts.append(f"best epoch {results['best_epoch']}")
    if results.get("seconds") is not None:
        parts.append(f"took {duration(results['seconds'])}")
    return "; ".join(parts)


def negatives_found(results: Results) -> str:
    """Describe the share of historical or inductive negatives found; empty for other kinds."""
    kind = results.get("negatives")
    shares = [
        f"{found:.1%} ({name})"
        for name in EVALUATED_SPLITS
        if (found := (results.get(name) or {}).get("negatives_found")) is not None
    ]
    if kind not in ("historical", "inductive") or not shares:
        return ""
    return f"{' and '.join(shares)} of the negatives are {kind}, random ones stand in for the rest"


def number(value: Any, decimals: int = 4) -> str:
    """Format a number for people; `-` for a missing one."""
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def duration(value: float | None) -> str:
    """Format seconds, such as 12.3 s, 4:05 min or 2:03:04 h."""
    if value is None:
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"
