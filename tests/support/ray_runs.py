"""Runs of `pres-dist ray` as a user starts them; nothing outlives a call."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TIMEOUT_S = 400
MARK = "PRES_DIST_TEST_RUN"


@dataclass(frozen=True)
class RayRun:
    """A run that goes on.

    Attributes:
        mark: in the environment of every process that belongs to it.
    """

    process: subprocess.Popen[str]
    mark: str

    def descendants(self) -> list[psutil.Process]:
        """All processes of the run, also those whose parent has gone."""
        return [process for process in psutil.process_iter() if _mark(process) == self.mark]

    def workers(self) -> list[psutil.Process]:
        """The actors of Ray Train's worker group."""
        return [p for p in self.descendants() if _name(p).startswith("ray::RayTrainWo")]

    def shards(self) -> list[psutil.Process]:
        """The actors that hold the memory, with `memory.store: server`."""
        return [p for p in self.descendants() if _name(p).startswith("ray::ShardActor")]

    def named(self, name: str) -> list[psutil.Process]:
        """Processes of the run whose names begin so."""
        return [p for p in self.descendants() if _name(p).startswith(name)]

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Until the condition holds; fails when the run ends before."""
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.002)


@dataclass(frozen=True)
class Ended:
    """The end of a run: its output, and processes that outlived it."""

    code: int
    out: str
    err: str
    left: list[str] = field(default_factory=list)


@contextmanager
def started(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[RayRun]:
    """`pres-dist ray ARGUMENTS`, killed with all it started when the block ends."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "pres_dist", "ray", *arguments],
        cwd=cwd,
        env=os.environ | {MARK: mark, "OMP_NUM_THREADS": "1"} | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    run = RayRun(process, mark)
    try:
        yield run
    finally:
        for left in [process, *run.descendants()]:
            left.kill()
        process.wait()


def ended(run: RayRun) -> Ended:
    """The run's end, which is waited for."""
    out, err = run.process.communicate(timeout=TIMEOUT_S)
    left = [process.name() for process in run.descendants()]
    return Ended(run.process.returncode, out, err, left)


def ray_run(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> Ended:
    """`pres-dist ray ARGUMENTS` from its start to its end."""
    with started(*arguments, cwd=cwd, environment=environment) as run:
        return ended(run)


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except psutil.Error:
        return None


def _name(process: psutil.Process) -> str:
    """Empty for one that has ended since it was listed."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
