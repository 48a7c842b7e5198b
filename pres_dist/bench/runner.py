"""Run tasks in separate processes, several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pres_dist.bench.job import Job
from pres_dist.bench.ledger import FINISHED, Ledger
from pres_dist.bench.run_records import State
from pres_dist.exit_codes import DIVERGED

Tell = Callable[[Job, str], None]
"""Callback that receives a task and its new status."""
PROGRAM = (sys.executable, "-m", "pres_dist")
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 30.0


@dataclass
class _Child:
    """A child process that runs a task; the resources in `holds` are released when it exits."""

    task: Job
    process: subprocess.Popen[bytes]
    started: float
    holds: ExitStack


class Runner:
    """Process pool that runs tasks as `python -m pres_dist` and records their outcomes.

    Each child has its own session: Ctrl-C interrupts only this process, which terminates the
    children before it exits.

    Args:
        ledger: folder of the sweep.
        jobs: number of concurrent processes.
        nice: increment of the niceness of each process.
        tell: callback for changes of status.
        program: command to run as `pres-dist`; that of this installation if None.
    """

    def __init__(
        self,
        ledger: Ledger,
        jobs: int,
        nice: int,
        tell: Tell,
        program: Sequence[str] | None = None,
    ) -> None:
        self._ledger, self._jobs, self._nice, self._tell = ledger, jobs, nice, tell
        self._program = PROGRAM if program is None else program
        self._children: list[_Child] = []

    def run(self, tasks: Iterable[Job]) -> None:
        """Run all unfinished tasks in order; tasks with the same identity run once."""
        # Of tasks with one identity the first stays, in its place.
        waiting = list({task.identity: task for task in reversed(list(tasks))}.values())[::-1]
        try:
            while waiting or self._children:
                while waiting and len(self._children) < self._jobs:
                    self._start(waiting.pop(0))
                time.sleep(_POLL_SECONDS if self._children else 0)
                self._reap()
        finally:
            self._stop()

    def _start(self, task: Job) -> None:
        ledger = self._ledger
        if ledger.state(task) in FINISHED:
            return
        with ExitStack() as stack:
            lock = stack.enter_context(ledger.claimed(task))
            if lock is None:
                self._tell(task, "busy in another process")
                return
            arguments = ledger.command(task)
            ledger.attempt_begins(task)
            scratch = Path(stack.enter_context(ledger.scratch()))
            log = stack.enter_context(ledger.file(task, ".log").open("ab"))
            interpreter, *module = self._program
            nice = ["nice", "-n", str(self._nice)] if self._nice else []
            threads = str(max(task.config.training.num_threads, 1))
            process = subprocess.Popen(
                [*nice, interpreter, *task.launcher(scratch), *module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**task.environment, **os.environ, "OMP_NUM_THREADS": threads},
                pass_fds=[lock],
                start_new_session=True,
            )
            self._children.append(_Child(task, process, time.monotonic(), stack.pop_all()))
        self._tell(task, "resumed" if arguments[0] == "resume" else "started")

    def _reap(self, interrupted: bool = False) -> None:
        """Record the outcomes of the children that have exited."""
        for child in list(self._children):
            # Unlike Popen.wait, wait4 returns the CPU time of this child and its own children.
            pid, status, usage = os.wait4(child.process.pid, os.WNOHANG)
            if not pid:
                continue
            self._children.remove(child)
            # Keeps Popen from waiting for the process again.
            child.process.returncode = os.waitstatus_to_exitcode(status)
            ended: dict[int, State] = {0: "done", DIVERGED: "diverged"}
            stopped: State = "begun" if interrupted else "failed"
            outcome = ended.get(child.process.returncode, stopped)
            self._ledger.attempt_ended(
                child.task,
                outcome,
                returncode=child.process.returncode,
                seconds=time.monotonic() - child.started,
                cpu_seconds=usage.ru_utime + usage.ru_stime,
            )
            if outcome in FINISHED:
                self._ledger.tidy(child.task)
            child.holds.close()
            self._tell(child.task, "stopped" if outcome == "begun" else outcome)

    def _stop(self) -> None:
        """Terminate the remaining children and all processes that they started."""
        deadline = time.monotonic() + _GRACE_SECONDS
        self._signal(signal.SIGTERM)
        while self._children:
            self._reap(interrupted=True)
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            time.sleep(_POLL_SECONDS if self._children else 0)

    def _signal(self, number: signal.Signals) -> None:
        """Signal each child's process group; the id of an unreaped child cannot be reused."""
        for child in self._children:
            os.killpg(child.process.pid, number)


class Watch:
    """Progress of a bench in words.

    Args:
        ledger: folder of the bench.
        jobs: returns the runs known so far.
        show: receives a line whenever a run starts or ends.
    """

    def __init__(
        self, ledger: Ledger, jobs: Callable[[], Iterable[Job]], show: Callable[[str], None]
    ) -> None:
        self._ledger, self._jobs, self._show = ledger, jobs, show
        self._started = time.monotonic()

    def __call__(self, job: Job, event: str) -> None:
        """Describe a run that started or ended; runs of one computation count once."""
        unique = {one.identity: one for one in self._jobs()}
        done = sum(self._ledger.state(one) in FINISHED for one in unique.values())
        spent = time.monotonic() - self._started
        line = f"[{done}/{len(unique)} {spent:,.0f} s] {job.label}: {event}"
        if event == "failed":
            line += f", see {self._ledger.file(job, '.log')}"
        record = self._ledger.record(job)
        if record is not None and record["test"]["ap"] is not None:
            line += f", test AP {record['test']['ap']:.4f}"
        self._show(line)

    def all_finished(self) -> bool:
        """Return True if all runs are finished."""
        return all(self._ledger.state(job) in FINISHED for job in self._jobs())
