"""Nothing stays behind of launches: neither when this process is told to end, nor of one that
was killed before.

Each process of a launch has a variable that names the process which started it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

MARK = "PRES_DIST_REHEARSAL"
NETWORKS = ("faults-1", "faults-2")
"""Network namespaces that launches run in."""
_FOLDERS = "rehearsal-"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder to rehearse in. With the block end all launches, their networks and the folder.

    SIGTERM and SIGHUP end the block like Ctrl-C. What an earlier process left is removed first.
    """
    _end_processes(lambda mark: not _is_alive(_owner(mark)))
    _drop_networks()
    _drop_folders()
    told = [signal.signal(number, _told_to_end) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        with tempfile.TemporaryDirectory(prefix=f"{_FOLDERS}{os.getpid()}-") as folder:
            try:
                yield Path(folder)
            finally:
                _end_processes(lambda mark: _owner(mark) == _owner(new_mark()))
                _drop_networks()
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGHUP), told, strict=True):
            signal.signal(number, handler)


def new_mark() -> str:
    """A value of MARK for one launch of this process."""
    return f"{os.getpid()} {psutil.Process().create_time()} {uuid.uuid4().hex}"


def mark_of(process: psutil.Process) -> str | None:
    """The mark of the launch that a process belongs to."""
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _told_to_end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # what follows is the end, once
    raise SystemExit(128 + number)


def _owner(mark: str) -> str:
    """Process id and start of the process that made a mark."""
    return mark.rpartition(" ")[0]


def _is_alive(owner: str) -> bool:
    try:
        number, started = owner.split()
        return psutil.Process(int(number)).create_time() == float(started)
    except (ValueError, psutil.Error):
        return False


def _end_processes(theirs: Callable[[str], bool]) -> None:
    """Kill the processes of some marks, and those that they start meanwhile."""
    while True:
        marked = [(process, mark_of(process)) for process in psutil.process_iter()]
        found = [process for process, mark in marked if mark is not None and theirs(mark)]
        living = [process for process in found if process.status() != psutil.STATUS_ZOMBIE]
        if not living:
            return
        for process in living:
            process.kill()
        time.sleep(0.05)


def _drop_networks() -> None:
    """Remove namespaces in which nothing runs any more."""
    for name in NETWORKS if shutil.which("ip") else ():
        inside = subprocess.run(
            ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
        )
        if inside.returncode == 0 and not inside.stdout.strip():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _drop_folders() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        found = re.match(rf"{_FOLDERS}(\d+)-", folder.name)
        if found and not psutil.pid_exists(int(found[1])):
            for mounted in psutil.disk_partitions(all=True):
                if folder in Path(mounted.mountpoint).parents:
                    subprocess.run(["umount", mounted.mountpoint], check=False)
            shutil.rmtree(folder, ignore_errors=True)
