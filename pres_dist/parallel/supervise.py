"""Run a command that uses Ray in a child process, and supervise it.

When a part of Ray's cluster dies, Ray ends the driver from C++ after up to a minute, without
advice to the user, and leaves processes and folders behind. So the driver is a child process. It
reports through a pipe what it has started (`report`). When the cluster breaks, the supervisor lets
the workers write a checkpoint, kills the remaining processes, removes the folders and prints one
error.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pres_dist.console import print_error
from pres_dist.parallel.parent import become_reaper, end_with
from pres_dist.parallel.signals import leave_terminal, shutdown_signals
from pres_dist.report.run_lock import is_locked

if TYPE_CHECKING:
    from typing_extensions import Unpack

BROKEN = 1
_POLL_S = 0.2
_STOPPED_S = 30.0
"""Seconds after which a stopped part of the cluster counts as lost."""
_SAVE_S = 20.0
"""Seconds for workers to finish their step and write a checkpoint."""
_END_S = 10.0
_RESUMED = "`pres-dist resume {}` continues from the newest checkpoint"
_NOTHING_YET = "no checkpoint was written yet: run the command again, in a new folder"
_AGAIN = "run the command again"

_pipe: int | None = None
"""Pipe through which a supervised process reports; None in any other process."""


class Message(TypedDict, total=False):
    """Report of a supervised process.

    Attributes:
        watch: ids by name of processes that the cluster needs to run.
        needed: a folder that it needs to run.
        remove, keep: a folder to remove when the process has ended, or not to remove after all.
        end: a file that asks workers to end.
        run: their run folder.
        ending: the cluster is being shut down in order.
        done: the command has printed all its messages.
    """

    watch: dict[str, int]
    needed: str
    remove: str
    keep: str
    end: str
    run: str
    ending: bool
    done: bool


def report(**message: Unpack[Message]) -> None:
    """Report to the supervisor; do nothing if there is none."""
    if _pipe is not None:
        with suppress(OSError):
            os.write(_pipe, (json.dumps(message) + "\n").encode())


def supervised(command: Callable[[], int]) -> int:
    """Call a function in a child process, and supervise that process.

    Both processes return from here: the child as soon as the function does, with its exit code;
    this one with the same code once no process of the child is left. Call it before any thread
    starts. On systems that cannot adopt orphans, the function is called in this process.
    """
    if not become_reaper():
        return command()
    reader, writer = os.pipe()
    numbers = {signal.SIGINT, signal.SIGCHLD, *shutdown_signals()}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    sys.stdout.flush()
    parent, child = os.getpid(), os.fork()
    if child:
        os.close(writer)
        os.set_blocking(reader, False)
        return _Supervisor(child, reader, numbers).run()
    global _pipe
    os.close(reader)
    _pipe = writer
    end_with(parent, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        return command()
    finally:
        report(done=True)


@dataclass
class _Supervisor:
    """Supervisor of the child process.

    Attributes:
        reported: the newest report of the child of each kind.
        remove: folders to remove.
        polls_stopped: consecutive polls that found a part of the cluster stopped. These are polls
            and not seconds, because a supervisor that was stopped with the cluster did not wait.
        handed_on: signals that were forwarded to the child.
    """

    child: int
    reader: int
    numbers: set[signal.Signals]
    reported: Message = field(default_factory=Message)
    remove: set[str] = field(default_factory=set)
    polls_stopped: int = 0
    handed_on: set[int] = field(default_factory=set)
    rest: bytes = b""
    status: int | None = None

    def run(self) -> int:
        why: str | None = None
        try:
            while self.status is None and why is None:
                self._forward()
                self._reap()
                self._listen()
                why = self._broken()
            if why is not None:
                self._let_workers_save()
        finally:
            self._end_all()
        if why is None:
            assert self.status is not None
            if self.reported.get("done") or -self.status in self.handed_on:
                # As a shell reports it.
                return 128 - self.status if self.status < 0 else self.status
            why = f"Ray has ended its driver with exit code {self.status}"
            if self.status < 0:
                why = f"Ray's driver was ended by {signal.Signals(-self.status).name}"
        advice, run = _AGAIN, self.reported.get("run")
        if run is not None:
            begun = any(Path(run).glob("checkpoints/LATEST"))
            advice = _RESUMED.format(run) if begun else _NOTHING_YET
        print_error(f"{why}; {advice}")
        return BROKEN

    def _forward(self) -> None:
        """Wait for a signal, and forward it unless the terminal has sent it to all processes."""
        info = signal.sigtimedwait(self.numbers, _POLL_S)
        if info is None or info.si_signo == signal.SIGCHLD:
            return
        leave_terminal(info.si_signo)
        from_terminal = info.si_signo == signal.SIGINT and info.si_code > 0
        if not from_terminal and self.status is None:
            self.handed_on.add(info.si_signo)
            with suppress(ProcessLookupError):
                os.kill(self.child, info.si_signo)

    def _reap(self) -> None:
        """Reap processes that have ended, including orphans of the cluster."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.child:
                    self.status = os.waitstatus_to_exitcode(ended[1])

    def _listen(self) -> None:
        while True:
            try:
                block = os.read(self.reader, 1 << 16)
            except BlockingIOError:
                block = b""
            if not block:
                return
            *lines, self.rest = (self.rest + block).split(b"\n")
            for line in lines:
                message: Message = json.loads(line)
                if "remove" in message:
                    self.remove.add(message["remove"])
                if "keep" in message:
                    self.remove.discard(message["keep"])
                self.reported.update(message)

    def _broken(self) -> str | None:
        """Return the reason why the cluster is broken; None if it is not."""
        if self.status is not None or self.reported.get("ending"):
            return None
        states = {name: _state(pid) for name, pid in self.reported.get("watch", {}).items()}
        for name, state in states.items():
            if state in ("", "Z", "X"):
                return f"{name} of Ray was killed or has failed, and the cluster with it"
        self.polls_stopped = self.polls_stopped + 1 if "T" in states.values() else 0
        if self.polls_stopped * _POLL_S > _STOPPED_S:
            stopped = ", ".join(name for name, state in states.items() if state == "T")
            return f"{stopped} of Ray has been stopped for {_STOPPED_S:g} s"
        needed = self.reported.get("needed")
        if needed is not None and not os.path.isdir(needed):
            return f"{needed}: the folder that Ray needs while it runs was removed"
        return None

    def _let_workers_save(self) -> None:
        """Ask running workers to end, and wait until they have released the run's lock."""
        end, run = self.reported.get("end"), self.reported.get("run")
        if end is None or run is None:
            return
        with suppress(OSError):
            Path(end).touch()
        started = time.monotonic()
        while is_locked(Path(run)) and time.monotonic() - started < _SAVE_S:
            self._reap()
            time.sleep(_POLL_S)

    def _end_all(self) -> None:
        """Kill the remaining processes of the child, and remove its folders."""
        import psutil

        started = time.monotonic()
        while time.monotonic() - started < _END_S:
            self._reap()
            left = psutil.Process().children(recursive=True)
            if not left:
                break
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(_POLL_S / 4)
        self._listen()
        for folder in self.remove:
            shutil.rmtree(folder, ignore_errors=True)


def _state(process: int) -> str:
    """Return the state of a process from /proc; empty if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def ray_processes() -> Iterator[tuple[str, int]]:
    """Yield name and id of the child processes that a Ray cluster cannot run without."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.name() in ("gcs_server", "raylet"):
                yield child.name(), child.pid
