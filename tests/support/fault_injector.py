"""Lets the faults of a plan happen, at the failpoints of a process that runs it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from pres_dist import failpoint
from pres_dist.memory import server
from pres_dist.memory.shard_layout import Kind
from pres_dist.memory.wire import Header, Link
from pres_dist.run_files import CHECKPOINTS
from tests.support.fault_plan import Fault, FaultPlan

_SIGNALS = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "terminate": signal.SIGTERM,
}
_SYSTEM_CALLS = ("open", "write", "fsync", "rename")
_BROKEN_AT_BYTES = 4096
_WRITING = os.O_WRONLY | os.O_RDWR
_HELD_S = 0.2
"""Longest hold of a push to be reordered: another worker's read may wait for it."""


def arm(text: str, rank: int | None, shard: int | None) -> Callable[[str, int | None], None]:
    """Read the faults planned for this worker or shard; return what its failpoints call.

    Raises:
        ConfigError: the text is no plan.
    """
    plan = FaultPlan.from_json(text)
    assert plan.folder is not None
    plan.folder.mkdir(parents=True, exist_ok=True)
    own = {
        number: fault
        for number, fault in enumerate(plan.faults)
        if (fault.rank, fault.shard) == (rank, shard) and not _mark(plan.folder, number).exists()
    }
    pending = Pending(plan.folder, own)
    if any(fault.place in _SYSTEM_CALLS for fault in own.values()):
        watch_files()
    if any(fault.place == "send" for fault in own.values()):
        server.Link = faulty_link(pending)
    return pending.reach


def disarm() -> None:
    """Forget the plan of this process, and its pending faults."""
    os.environ.pop(failpoint.VARIABLE, None)
    failpoint.set_identity()
    server.Link = Link


@dataclass
class Pending:
    """Pending faults of this process.

    Attributes:
        folder: holds a file for each fault that has happened.
        faults: by their number in the plan.
        passed: number of times that the place of a pending fault was reached when it was due.
        step: step of the most recent failpoint that named one.
    """

    folder: Path
    faults: dict[int, Fault]
    passed: Counter[int] = field(default_factory=Counter)
    step: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, place: str, step: int | None) -> None:
        """Trigger the faults that are due at this place."""
        while self.faults and (fault := self.take(place, step)) is not None:
            if fault.place == "write":
                break_next_write()
            elif fault.verb == "stall":
                time.sleep(fault.ms / 1000)
            else:
                os.kill(os.getpid(), _SIGNALS[fault.verb])

    def take(self, place: str, step: int | None = None) -> Fault | None:
        """Return a fault that is due here; it is recorded, so the caller must trigger it."""
        with self.lock:
            if step is not None:
                self.step = step
            for number, fault in self.faults.items():
                if fault.place == place and self.step >= fault.step:
                    self.passed[number] += 1
                    if self.passed[number] <= fault.passes:
                        continue
                    del self.faults[number]
                    return fault if _note(self.folder, number) else None
        return None


def _note(folder: Path, number: int) -> bool:
    """Record that a fault happens now; return False if another process already has."""
    try:
        with _mark(folder, number).open("x") as file:
            file.write(f"{time.time()}\n")
    except FileExistsError:
        return False
    return True


def _mark(folder: Path, number: int) -> Path:
    return folder / f"fault-{number}"


@cache
def watch_files() -> None:
    """Reach a failpoint before files of checkpoints are opened to write, synced and renamed.

    This happens once in a process and cannot be undone, so only processes with such faults call it.
    """
    sync = os.fsync

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _is_written(arguments) and _in_checkpoint(arguments[0]):
            failpoint.failpoint("open")
            failpoint.failpoint("write")
        elif event == "os.rename" and _in_checkpoint(arguments[0]):
            failpoint.failpoint("rename")

    def watched_sync(descriptor: Any) -> None:
        with suppress(OSError):
            if _in_checkpoint(os.readlink(f"/proc/self/fd/{int(descriptor)}")):
                failpoint.failpoint("fsync")
        sync(descriptor)

    os.fsync = watched_sync  # type: ignore[assignment]
    sys.addaudithook(audit)


def break_next_write() -> None:
    """Let the kernel kill this process in the middle of its next write to a large file.

    A limit on file sizes causes this: the system call that exceeds it raises SIGXFSZ, which
    Python ignores by default and which kills the process here.
    """
    ctypes.CDLL(None).signal(signal.SIGXFSZ, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_BROKEN_AT_BYTES, resource.RLIM_INFINITY))


def _is_written(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(sign in mode for sign in "wax+")
    return bool(flags & _WRITING)


def _in_checkpoint(path: object) -> bool:
    return isinstance(path, str | os.PathLike) and f"/{CHECKPOINTS}/" in f"{os.fspath(path)}"


def faulty_link(pending: Pending) -> type[Link]:
    """Return a link to a memory shard that duplicates, delays or reorders pushes."""

    class FaultyLink(Link):
        """Applies the planned faults to pushes; sends everything else unchanged."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._held: tuple[Header, Tensor | None] | None = None
            self._lock = threading.Lock()

        def send(self, header: Header, payload: Tensor | None = None) -> None:
            fault = pending.take("send") if header.kind == Kind.PUSH else None
            verb = None if fault is None else fault.verb
            if fault is not None and verb == "delay":
                time.sleep(fault.ms / 1000)
            with self._lock:
                if header.answer_bytes or header.kind == Kind.LEAVE:
                    # A shard answers a worker's messages in order, so the read would block.
                    self._send_held()
                overtaken, self._held = self._held, None
                if verb == "reorder":
                    self._held = header, payload
                    timer = threading.Timer(_HELD_S, self._give_up_waiting)
                    timer.daemon = True
                    timer.start()
                else:
                    super().send(header, payload)
                if verb == "duplicate":
                    super().send(header, payload)
                if overtaken is not None:
                    super().send(*overtaken)

        def _give_up_waiting(self) -> None:
            with self._lock:
                self._send_held()

        def _send_held(self) -> None:
            held, self._held = self._held, None
            if held is not None:
                super().send(*held)

    return FaultyLink
