"""The folder of a sweep: its runs, their states and their results."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pres_dist.bench.job import Job, identity
from pres_dist.bench.run_records import Attempt, Record, State, read_record
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.errors import ConfigError, DataError
from pres_dist.files import write_atomically
from pres_dist.run_files import CHECKPOINTS, LATEST, REPORT, RESULTS

FINISHED: tuple[State, ...] = ("done", "diverged")
RUNS, TASKS = "runs", "tasks"


class Ledger:
    """Store of the runs in a sweep's folder.

    `runs/KEY` is a run's folder; `tasks/KEY.yaml`, `.json`, `.log` and `.lock` are its
    configuration, the outcomes of its attempts, its output and its lock. A run is found by what
    it computes, regardless of the sweep or method that requested it.

    Args:
        folder: folder of the sweep; `create` makes it.
        known: finished runs of other folders, by fingerprint, which count as this one's.
    """

    def __init__(self, folder: Path, known: Mapping[str, Record] | None = None) -> None:
        self.folder = folder
        self._known = known or {}
        # Finished runs do not change; the cache avoids parsing their files again.
        self._finished: dict[str, Record] = {}
        self._keys: dict[str, str] = {}

    def create(self) -> None:
        """Create the folder if it does not exist.

        Raises:
            ConfigError: The folder cannot be created.
        """
        try:
            for name in (RUNS, TASKS):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.folder}: cannot make the sweep's folder: {error.strerror}"
            raise ConfigError(message) from None

    def state(self, task: Job) -> State:
        """Return the state of a run; an interrupted run that can resume is `begun`.

        A finished run with damaged files is `failed`, so that it runs again.
        """
        record = self.record(task)
        if record is not None:
            return record["state"]
        state = self._state(task)
        return "failed" if state in FINISHED else state

    def record(self, task: Job) -> Record | None:
        """Return the results of a finished run and the cost of its attempts; None for any other."""
        # A record from another sweep counts as this one's.
        record = self._finished.get(task.identity) or self._known.get(task.fingerprint)
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
        if not attempts or attempts[-1]["outcome"] in FINISHED:  # else its process is still exiting
            self._finished[task.identity] = record
        return record

    def run_dir(self, task: Job) -> Path:
        """Return the run's folder, whose name may come from another method."""
        return self.folder / RUNS / self._key(task)

    def file(self, task: Job, suffix: str) -> Path:
        """Return the path of one of the run's files in the tasks folder."""
        return self.folder / TASKS / f"{self._key(task)}{suffix}"

    def attempts(self, task: Job) -> list[Attempt]:
        """Return the outcome and cost of each attempt at the run."""
        path = self.file(task, ".json")
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def attempt_begins(self, task: Job) -> None:
        """Add an attempt; if its process is killed, it keeps the outcome `begun` and no figures."""
        self._write_attempts(task, [*self.attempts(task), {"outcome": "begun"}])

    def attempt_ended(
        self, task: Job, outcome: State, *, returncode: int, seconds: float, cpu_seconds: float
    ) -> None:
        """Record the outcome and cost of the newest attempt."""
        ended: Attempt = {
            "outcome": outcome,
            "returncode": returncode,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
        }
        self._write_attempts(task, [*self.attempts(task)[:-1], ended])

    def _write_attempts(self, task: Job, attempts: list[Attempt]) -> None:
        write_atomically(self.file(task, ".json"), json.dumps(attempts, indent=1) + "\n")

    def command(self, task: Job) -> list[str]:
        """Prepare the run's folder; return the arguments of pres-dist that start or resume it."""
        run_dir = self.run_dir(task)
        saved = (run_dir / CHECKPOINTS / LATEST).exists()
        if task.resumes and saved and self.state(task) == "begun":
            return ["resume", str(run_dir)]
        shutil.rmtree(run_dir, ignore_errors=True)
        for suffix in (".json", ".log"):
            self.file(task, suffix).unlink(missing_ok=True)
        write_atomically(self.file(task, ".yaml"), dump_yaml(task.config))
        return task.arguments(self.file(task, ".yaml"), run_dir)

    def tidy(self, task: Job) -> None:
        """Delete the largest files of a finished run: its checkpoints and its report page."""
        shutil.rmtree(self.run_dir(task) / CHECKPOINTS, ignore_errors=True)
        (self.run_dir(task) / REPORT).unlink(missing_ok=True)

    def scratch(self) -> TemporaryDirectory[str]:
        """Create a temporary folder for a launcher."""
        folder = self.folder / TASKS
        return TemporaryDirectory(prefix="launch-", dir=folder, ignore_cleanup_errors=True)

    @contextmanager
    def claimed(self, task: Job) -> Iterator[int | None]:
        """Hold the run's lock; yield its descriptor, or None if another process holds it.

        A child process that inherits the descriptor holds the lock until it exits, so that a run
        that outlives its sweep is not started a second time.
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
        """Return the state of a run according to its files."""
        run_dir, attempts = self.run_dir(task), self.attempts(task)
        if not run_dir.exists():  # a run may fail before it creates its folder
            return "failed" if attempts and attempts[-1]["outcome"] == "failed" else "new"
        if (run_dir / RESULTS).exists():
            return "done"
        # An attempt that ended well without results has lost its files, and runs again.
        outcome: State = attempts[-1]["outcome"] if attempts else "begun"
        return "begun" if outcome == "done" else outcome

    def _key(self, task: Job) -> str:
        """Return the name of the run's files, which may come from another method."""
        if task.identity not in self._keys:
            same_digest = sorted((self.folder / TASKS).glob(f"*-{task.digest}*.yaml"))
            computed = identity(task.config)
            found = [path for path in same_digest if _computes(path) == computed]
            if not found:  # an equal digest may be a run with other defaults: append a number
                return f"{task.key}-{len(same_digest) + 1}" if same_digest else task.key
            self._keys[task.identity] = found[0].stem
        return self._keys[task.identity]


def _computes(path: Path) -> str | None:
    """Return the identity of a configuration file; None if this version cannot read it."""
    try:
        return identity(load_config(path))
    except ConfigError:
        return None
