"""Print the progress of a sweep."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from pres_dist.bench.job import Job
from pres_dist.bench.ledger import FINISHED, Ledger
from pres_dist.bench.plan import Sweep, Task
from pres_dist.bench.runner import Tell
from pres_dist.bench.sweep import Only, first_tasks, other_tasks, untuned_cells
from pres_dist.bench.tuning import choose


def tell_jobs(jobs: Sequence[Job], ledger: Ledger) -> Tell:
    """Return a callback that prints a line whenever one of the jobs starts or ends."""
    started = time.monotonic()
    unique = {job.identity: job for job in jobs}

    def tell(job: Job, event: str) -> None:
        done = sum(ledger.state(one) in FINISHED for one in unique.values())
        print(_line(ledger, job, event, f"{done}/{len(unique)}", started), flush=True)

    return tell


def list_jobs(jobs: Iterable[Job], ledger: Ledger) -> None:
    """Print every job and its state, in the order of running."""
    for job in jobs:
        print(f"{ledger.state(job):<9}{job.label}")


def _line(ledger: Ledger, job: Job, event: str, progress: str, started: float) -> str:
    line = f"[{progress} {time.monotonic() - started:,.0f} s] {job.label}: {event}"
    if event == "failed":
        line += f", see {ledger.file(job, '.log')}"
    record = ledger.record(job)
    if record is not None and record["test"]["ap"] is not None:
        line += f", test AP {record['test']['ap']:.4f}"
    return line


class Watch:
    """Callback that prints a line whenever a run starts or ends."""

    def __init__(self, sweep: Sweep, ledger: Ledger, only: Only) -> None:
        self._sweep, self._ledger, self._only = sweep, ledger, only
        self._started = time.monotonic()

    def __call__(self, task: Job, event: str) -> None:
        tasks = self._tasks()
        done = sum(self._ledger.state(task) in FINISHED for task in tasks.values())
        progress = f"{done}/{len(tasks)}"
        print(_line(self._ledger, task, event, progress, self._started), flush=True)

    def all_finished(self) -> bool:
        """Return True if all selected runs are finished."""
        waiting = untuned_cells(self._sweep, choose(self._sweep, self._ledger), self._only)
        states = [self._ledger.state(task) for task in self._tasks().values()]
        return not waiting and all(state in FINISHED for state in states)

    def _tasks(self) -> dict[str, Task]:
        """Return the runs known so far by identity, each computation once."""
        choices = choose(self._sweep, self._ledger)
        tasks = first_tasks(self._sweep, self._only)
        tasks += other_tasks(self._sweep, choices, self._only)
        return {task.identity: task for task in tasks}


def list_runs(sweep: Sweep, ledger: Ledger, only: Only) -> None:
    """Print every run and its state, in the order of running."""
    choices = choose(sweep, ledger)
    seen: set[str] = set()
    for task in [*first_tasks(sweep, only), *other_tasks(sweep, choices, only)]:
        state = "shared" if task.identity in seen else ledger.state(task)
        seen.add(task.identity)
        tuned = ", ".join(f"{name} {value}" for name, value in task.tuned)
        epochs = f"{task.config.training.epochs} epochs"
        print(f"{state:<9}{ledger.run_dir(task).name}  {', '.join(filter(None, (epochs, tuned)))}")
    waiting = untuned_cells(sweep, choices, only)
    seeds = len(sweep.config.seeds) - 1
    if waiting:
        print(f"{len(waiting) * seeds} more runs once tuning has chosen, in {len(waiting)} cells")
