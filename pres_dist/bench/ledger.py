"""The folder of a sweep: which runs it holds, how far each is, and what each came to."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pres_dist.bench.job import Job
from pres_dist.bench.plan import identity
from pres_dist.bench.records import Record, read_record
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.errors import ConfigError, DataError
from pres_dist.files import write_atomically
from pres_dist.run_files import CHECKPOINTS, LATEST, REPORT, RESULTS

State = Literal["done", "diverged", "failed", "begun", "new"]
FINISHED: tuple[State, ...] = ("done", "diverged")
RUNS, TASKS = "runs", "tasks"


class Ledger:
    """What a sweep's folder holds.

    `runs/KEY` is a run's folder; `tasks/KEY.yaml`, `.json`, `.log` and `.lock` are its
    configuration, how its attempts ended, what it printed and who is at it. A run is
    found by what it computes, whatever sweep or method called for it.

    Args:
        folder: the sweep's; `create` makes it.
        known: finished runs of other folders, by fingerprint, which count as this one's.
    """

    def __init__(self, folder: Path, known: Mapping[str, Record] | None = None) -> None:
        self.folder = folder
        self._known = known or {}
        # What is finished stays as it is, and looking it up again costs a parse of its files.
        self._finished: dict[str, Record] = {}
        self._keys: dict[str, str] = {}

    def create(self) -> None:
        """Make the folder if need be; ConfigError where it cannot be made."""
        try:
            for name in (RUNS, TASKS):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.folder}: cannot make the sweep's folder: {error.strerror}"
            raise ConfigError(message) from None

    def state(self, task: Job) -> State:
        """How far a run is; `begun` also where it was stopped and can go on.

        A finished run whose files are damaged has `failed`: it will be run again.
        """
        record = self.record(task)
        if record is not None:
            return record["state"]
        state = self._state(task)
        return "failed" if state in FINISHED else state

    def record(self, task: Job) -> Record | None:
        """The results of a finished run, with what its attempts cost; None for any other."""
        record = self._at_hand(task)
        if record is not None:
            return record
        state = self._state(task)
        if state not in FINISHED:
            return None
        attempts = self.attempts(task)
        try:
            record = read_record(self.run_dir(task), state, attempts)
        except (DataError, ValueError):
            return None
        if not attempts or attempts[-1]["outcome"] in FINISHED:  # else its process still ends
            self._finished[task.identity] = record
        return record

    def _at_hand(self, task: Job) -> Record | None:
        """The record of a run that was looked up before, or is known from elsewhere."""
        return self._finished.get(task.identity) or self._known.get(task.fingerprint)

    def run_dir(self, task: Job) -> Path:
        """Folder of the run, perhaps under the name that another method gave it."""
        return self.folder / RUNS / self._key(task)

    def file(self, task: Job, suffix: str) -> Path:
        """One of the files beside the run's folder."""
        return self.folder / TASKS / f"{self._key(task)}{suffix}"

    def attempts(self, task: Job) -> list[dict[str, Any]]:
        """How each attempt at the run ended and what it cost."""
        path = self.file(task, ".json")
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def attempt_begins(self, task: Job) -> None:
        """Add an attempt; one that is cut off stays like this, without figures."""
        self._write_attempts(task, [*self.attempts(task), {"outcome": "begun"}])

    def attempt_ended(self, task: Job, outcome: State, **figures: Any) -> None:
        """Note how the newest attempt ended and what it cost."""
        done = {"outcome": outcome, **figures}
        self._write_attempts(task, [*self.attempts(task)[:-1], done])

    def _write_attempts(self, task: Job, attempts: list[dict[str, Any]]) -> None:
        write_atomically(self.file(task, ".json"), json.dumps(attempts, indent=1) + "\n")

    def command(self, task: Job) -> list[str]:
        """Make the run's folder ready; returns the arguments of pres-dist that (re)start it."""
        run_dir = self.run_dir(task)
        if (
            task.resumes
            and self.state(task) == "begun"
            and (run_dir / CHECKPOINTS / LATEST).exists()
        ):
            return ["resume", str(run_dir)]
        shutil.rmtree(run_dir, ignore_errors=True)
        for suffix in (".json", ".log"):
            self.file(task, suffix).unlink(missing_ok=True)
        write_atomically(self.file(task, ".yaml"), dump_yaml(task.config))
        return task.arguments(self.file(task, ".yaml"), run_dir)

    def tidy(self, task: Job) -> None:
        """Drop what makes up most of a finished run's bytes: checkpoints, and a page of its own."""
        shutil.rmtree(self.run_dir(task) / CHECKPOINTS, ignore_errors=True)
        (self.run_dir(task) / REPORT).unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for what a launcher needs while it runs."""
        with TemporaryDirectory(
            prefix="launch-", dir=self.folder / TASKS, ignore_cleanup_errors=True
        ) as name:
            yield Path(name)

    @contextmanager
    def claimed(self, task: Job) -> Iterator[int | None]:
        """Hold the run's lock; yields its descriptor, or None where another process is at it.

        A child that inherits the descriptor holds the lock for as long as it lives, so
        that a run whose sweep was killed is not started a second time beside itself.
        """
        descriptor = os.open(self.file(task, ".lock"), os.O_CREAT | os.O_RDWR)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield descriptor
        finally:
            os.close(descriptor)

    def _state(self, task: Job) -> State:
        """As the files say."""
        run_dir, attempts = self.run_dir(task), self.attempts(task)
        if not run_dir.exists():  # a run may fail before it makes its folder
            return "failed" if attempts and attempts[-1]["outcome"] == "failed" else "new"
        if (run_dir / RESULTS).exists():
            return "done"
        outcome: State = attempts[-1]["outcome"] if attempts else "begun"
        return "begun" if outcome == "done" else outcome

    def _key(self, task: Job) -> str:
        """The name of the run's files, which another method may have given them."""
        if task.identity not in self._keys:
            same_digest = sorted((self.folder / TASKS).glob(f"*-{task.digest}*.yaml"))
            computed = identity(task.config)
            found = [path for path in same_digest if _computes(path) == computed]
            if not found:  # perhaps one of other defaults stands under the name: next to it then
                return f"{task.key}-{len(same_digest) + 1}" if same_digest else task.key
            self._keys[task.identity] = found[0].stem
        return self._keys[task.identity]


def _computes(path: Path) -> str | None:
    """The identity of a configuration; None for one that this version cannot read."""
    try:
        return identity(load_config(path))
    except ConfigError:
        return None
