"""Exclusive lock on writing into a run folder.

A process that trains, resumes, extends or serves a run locks `RUN/.lock` by `flock`. The operating
system releases the lock when the process ends, also after SIGKILL, so a lock is never stale. NFS
forwards `flock` to its server. If a file system has no locks, or none across machines, the holder
gets a warning. The file is never removed, and describes its last holder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TypedDict, cast

from pres_dist.errors import ConfigError
from pres_dist.remote import without_secrets
from pres_dist.report.environment import launch_id
from pres_dist.staging import is_at

_log = logging.getLogger(__name__)
LOCK = ".lock"
PATIENCE_S = 3.0
"""Seconds to wait for a holder: a killed process takes a moment to end."""
PREDECESSOR_S = 30.0
"""Seconds to wait for workers whose launcher was killed; workers on Ray end a little later."""
SAME_LAUNCH_S = 120.0
"""Seconds to wait for an earlier attempt of the same launch, whose machine may be lost: an NFS
server keeps the lock of a client that has vanished for about 90 s."""
_POLL_S = 0.1
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LONGEST_COMMAND = 200


class Holder(TypedDict, total=False):
    """Process that holds a lock, as its file describes it."""

    pid: int
    host: str
    since: str
    command: str
    launch: str | None


class RunLock:
    """Lock on a run folder; only this process writes into it until the block ends.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder, self._descriptor = folder, descriptor

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock, so that other processes may write into the folder."""
        os.close(self._descriptor)

    def check(self) -> None:
        """Raise ConfigError if the folder was moved, removed or replaced."""
        if not is_at(self.folder / LOCK, self._descriptor):
            raise ConfigError(
                f"{self.folder}: must stay in its place while this process writes into it, and was "
                "moved, removed or replaced; nothing more is written here. Where the folder is "
                "now, `pres-dist resume` continues the run"
            )


def lock_run(folder: Path, patience_s: float = PATIENCE_S) -> RunLock:
    """Lock a run folder so that no other process writes into it.

    It logs a warning if the locks of the file system do not reach all machines.

    Args:
        folder: an existing run folder.
        patience_s: seconds to wait for another process to release it; at least `SAME_LAUNCH_S`
            for an earlier attempt of the same launch.

    Raises:
        ConfigError: another process holds the lock, or the file cannot be written.
    """
    started = time.monotonic()
    while True:
        try:
            descriptor = os.open(
                folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
            )
        except OSError as error:
            raise ConfigError(f"{folder / LOCK}: cannot be written: {error.strerror}") from None
        try:
            caveat = _take(descriptor, folder)
            # Between open and flock, the folder may have been removed or replaced by another:
            # a lock on a file that is no longer there excludes nobody.
            if is_at(folder / LOCK, descriptor):
                _describe(descriptor)
                break
        except BlockingIOError:
            holder, patience = _holder(folder / LOCK), patience_s
            if (holder.get("host"), holder.get("pid")) == (socket.gethostname(), os.getpid()):
                patience = 0.0  # this process will not release it while it waits
            elif holder.get("launch") is not None and holder["launch"] == launch_id():
                patience = max(patience_s, SAME_LAUNCH_S)
            if time.monotonic() - started >= patience:
                os.close(descriptor)
                raise ConfigError(_refusal(folder, holder)) from None
            time.sleep(_POLL_S)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was replaced meanwhile, or the lock is held
    if caveat:
        _log.warning("%s: %s: make sure that no other process writes into this run", folder, caveat)
    return RunLock(folder, descriptor)


def is_locked(folder: Path) -> bool:
    """Return True if a process holds the lock of a run folder."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _take(descriptor: int, folder: Path) -> str:
    """Lock the file; return why the lock does not exclude all others, or an empty string."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return f"its file system has no locks ({error.strerror})"
        raise
    kind = _local_only(folder)
    return f"locks of its file system ({kind}) do not reach other machines" if kind else ""


def _describe(descriptor: int) -> None:
    """Write the holder of the lock into the file, for the error message of other processes."""
    command = "".join(sign for sign in without_secrets(shlex.join(sys.argv)) if sign.isprintable())
    holder: Holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command[:_LONGEST_COMMAND],
        "launch": launch_id(),
    }
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(holder) + "\n").encode(), 0)
    except OSError:  # a full disk; the lock is held anyway
        pass


def _holder(file: Path) -> Holder:
    """Return the description of the lock's holder; empty if it is not written yet."""
    try:
        holder = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("Holder", holder) if isinstance(holder, dict) else {}


def _refusal(folder: Path, holder: Holder) -> str:
    who = "another process"
    if {"pid", "host", "since", "command"} <= holder.keys():
        who = (
            f"process {holder['pid']} on {holder['host']}, since {holder['since']}: "
            f"{holder['command']}"
        )
    return (
        f"{folder}: only one process at a time may train, resume, extend or serve a run; "
        f"it is in use by {who}"
    )


def _local_only(folder: Path) -> str | None:
    """Return the kind of a shared file system whose locks stay on each machine, or None.

    The kernel handles `flock` by itself for FUSE file systems without locks of their own, and for
    NFS that is mounted with `nolock` or `local_lock`.
    """
    kind, options = _mount(folder)
    if kind in ("nfs", "nfs4"):
        local = {"nolock", "local_lock=all", "local_lock=flock"} & set(options)
        return f"{kind}, {min(local)}" if local else None
    return kind if kind in _FUSE_WITHOUT_LOCKS else None


_FUSE_WITHOUT_LOCKS = frozenset(
    f"fuse.{name}"
    for name in ("gcsfuse", "goofys", "mount-s3", "rclone", "s3fs", "sshfs", "blobfuse2")
)


def _mount(folder: Path) -> tuple[str, list[str]]:
    """Return type and options of a folder's file system on Linux; empty values elsewhere."""
    try:
        device = os.stat(folder).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            mounted, _, system = line.partition(" - ")
            if mounted.split()[2] == number:
                kind, _, options = system.split(" ", 2)
                return kind, options.split(",")
    except (OSError, ValueError, IndexError):
        pass
    return "", []
