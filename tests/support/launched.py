"""Launchers with their workers, and what they may not leave behind.

Everything that a launcher starts carries a mark in its environment, so that a test finds
its workers wherever they hang in the tree of processes, orphans included::

    with Launched([sys.executable, "-m", "torch.distributed.run", ...]) as launched:
        wait_until(lambda: folder.exists(), launched)
        launched.worker(1).kill()
        assert launched.wait() == 0, launched.errors()
    # here no process of the launch is left, or the test has failed
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

MARK = "PRES_DIST_TEST_LAUNCH"
TIMEOUT_S = 240
LEFT_AFTER_S = 60
SHARED_MEMORY = Path("/dev/shm")


class Launched:
    """A command in a session of its own; on leaving, all it has started must have ended.

    Args:
        command: what to run.
        environment: variables besides those of the tests.
        folder: working directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._segments = _segments()
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115 # read after the command has ended
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        variables = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", MARK: self.mark}
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **variables, **(environment or {})},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        passed = kind is None and self.process.poll() is not None
        left = self.left_behind() if passed else []
        for process in _marked(self.mark):
            process.kill()
        self.process.wait(10)
        assert not left, f"left behind after {LEFT_AFTER_S} s: {left}"

    def wait(self) -> int:
        """Exit code of the command; what it printed is in `output` and `errors`."""
        return self.process.wait(TIMEOUT_S)

    def output(self) -> str:
        return _content(self._out)

    def errors(self) -> str:
        return _content(self._err)

    def processes(self) -> list[psutil.Process]:
        """All living processes of the launch."""
        return _marked(self.mark)

    def worker(self, rank: int) -> psutil.Process:
        """The living worker of a rank, by the RANK that its launcher gave it."""
        found = [p for p in _marked(self.mark) if _variable(p, "RANK") == str(rank)]
        assert len(found) == 1, f"{len(found)} workers of rank {rank}: {found}\n{self.errors()}"
        return found[0]

    def left_behind(self) -> list[str]:
        """Processes and segments of shared memory that are still there after a while."""
        end = time.monotonic() + LEFT_AFTER_S
        while True:
            left = [f"process {p.pid}" for p in _marked(self.mark)]
            left += [f"{SHARED_MEMORY / name}" for name in _abandoned(_segments() - self._segments)]
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.1)


def torchrun(
    arguments: Sequence[str],
    *options: str,
    workers: int = 2,
    module: str = "pres_dist",
    launcher: str = "torch.distributed.run",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Launched:
    """`torchrun --standalone --nproc-per-node=WORKERS OPTIONS -m MODULE ARGUMENTS`."""
    command = [sys.executable, "-m", launcher, "--standalone", f"--nproc-per-node={workers}"]
    return Launched([*command, *options, "-m", module, *arguments], environment, folder)


def wait_until(condition: Callable[[], bool], *launched: Launched) -> None:
    """Wait for something that the launched commands will bring about while they run."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        for command in launched:
            assert command.process.poll() is None, f"ended too early:\n{command.errors()}"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def _marked(mark: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if _variable(p, MARK) == mark]


def _variable(process: psutil.Process, name: str) -> str | None:
    """A variable of a living process's environment."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(name)
    except (psutil.Error, OSError):
        return None


def _segments() -> set[str]:
    return {path.name for path in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()


def _abandoned(names: set[str]) -> set[str]:
    """Segments that no living process has mapped or open: other programs use theirs."""
    for process in Path("/proc").iterdir():
        if names and process.name.isdigit():
            names = names - _held(process, names)
    return names


def _held(process: Path, names: set[str]) -> set[str]:
    try:
        maps = (process / "maps").read_text(errors="replace")
        links = [os.readlink(link) for link in (process / "fd").iterdir()]
    except OSError:  # gone, or not ours to look at
        return set()
    paths = {name: str(SHARED_MEMORY / name) for name in names}
    return {name for name, path in paths.items() if path in maps or path in links}


def _content(file: tempfile._TemporaryFileWrapper[str]) -> str:
    file.seek(0)
    return file.read()
