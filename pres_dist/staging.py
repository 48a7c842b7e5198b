"""Atomic replacement of files and folders, without ever losing the old ones.

    .NAME.partial-HOST-RANDOM            being written, beside NAME; locked by its writer
    .NAME.partial-HOST-RANDOM.replaced   the old NAME, if names cannot be exchanged atomically

A killed writer leaves these behind. The next writer of the same NAME removes those that no
process has locked. If NAME is missing, it restores the old one instead.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_REPLACED = ".replaced"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM)
"""Errors of kernels and file systems without `RENAME_EXCHANGE`; EPERM is from seccomp filters."""


class Staged:
    """Hidden file or folder next to `target` that replaces it once it is complete.

    It has an unpredictable name and is created exclusively, so that other users who may write
    to the same folder cannot put a link in its place.

    Args:
        target: path to replace.
        folder: True for a folder, False for a file.

    Attributes:
        path: where to write, once `create` has returned.
    """

    def __init__(self, target: Path, folder: bool = False) -> None:
        if not target.name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        self.target, self._folder = target, folder
        self.path = self._new_path()
        self._descriptor: int | None = None

    def create(self) -> None:
        """Restore or remove the leftovers of killed writers, then create it empty."""
        if self._folder:
            restore(self.target)
        _remove_leftovers(self.target)
        while not self._created():
            # Another writer took it for a leftover before it was locked, and may be about to
            # remove it by its name: the next attempt has another name.
            self.discard()
            self.path = self._new_path()

    def _new_path(self) -> Path:
        return self.target.with_name(f"{_own_prefix(self.target)}{secrets.token_hex(8)}")

    def _created(self) -> bool:
        """Create and lock it; return False if another writer removed it first."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        if self._folder:
            self.path.mkdir(mode=0o700)
            flags = os.O_RDONLY
        try:
            self._descriptor = os.open(self.path, flags | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            if self._folder:
                return False
            raise
        return _lock(self._descriptor, True) and is_at(self.path, self._descriptor)

    def publish(self, replace: bool = True) -> None:
        """Durably replace `target` and remove its old content.

        After an OSError the old target is still in place.

        Args:
            replace: True to replace a folder that is not empty, too; files are always replaced.
        """
        self.path.chmod((0o777 if self._folder else 0o666) & ~_umask())
        sync(self.path)
        if self._folder and replace and os.path.lexists(self.target):
            self._exchange_folders()
        else:
            try:
                self.path.replace(self.target)
                sync(self.target.parent)
            except OSError as error:
                if not replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self._exchange_folders()  # another writer was quicker
        self.discard()

    def _exchange_folders(self) -> None:
        _exchange(self.path, self.target)
        try:
            sync(self.target.parent)
        except OSError:
            _exchange(self.path, self.target)
            raise

    def discard(self) -> None:
        """Remove the staged path; after an exchange by `publish` it holds the old target."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _remove(self.path)


def restore(target: Path) -> None:
    """Move back the old target that a killed writer had moved aside, if `target` is missing."""
    if os.path.lexists(target):
        return
    for path in _leftovers(target, f".{target.name}.partial-"):
        if path.name.endswith(_REPLACED):
            with _abandoned(path, without_locks=True) as abandoned:
                if abandoned and not os.path.lexists(target):
                    os.rename(path, target)
                    sync(target.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable: a rename may be lost in a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> None:
    """Exchange two names: atomically if the file system can, else so that `restore` undoes it."""
    try:
        _rename_exchange(first, second)
        return
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
    aside = first.with_name(first.name + _REPLACED)
    with _abandoned(second):  # locked, so that no other writer puts it back meanwhile
        os.rename(second, aside)
        try:
            os.rename(first, second)
        except OSError:
            os.rename(aside, second)
            raise
        with suppress(OSError):  # else it is a leftover
            os.rename(aside, first)


def _rename_exchange(first: Path, second: Path) -> None:
    """Call renameat2(RENAME_EXCHANGE), which Python does not wrap."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = (os.fsencode(path) for path in (first, second))
    if function(_AT_FDCWD, next(names), _AT_FDCWD, next(names), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(first), None, str(second))


def _remove_leftovers(target: Path) -> None:
    """Remove leftovers of killed writers of this machine, except the only copy of `target`.

    Locks may not reach other machines, whose writers may still be running.
    """
    for path in _leftovers(target, _own_prefix(target)):
        if path.name.endswith(_REPLACED) and not os.path.lexists(target):
            continue
        with _abandoned(path) as abandoned:
            if abandoned:
                _remove(path)


def _own_prefix(target: Path) -> str:
    return f".{target.name}.partial-{socket.gethostname()}-"


def _leftovers(target: Path, prefix: str) -> list[Path]:
    """Return this user's files and folders whose names start with the prefix, without links."""
    with suppress(OSError), os.scandir(target.parent) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(prefix)
            and not entry.is_symlink()
            and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        ]
    return []


@contextmanager
def _abandoned(path: Path, without_locks: bool = False) -> Iterator[bool]:
    """Hold the lock of a path; yield False if another process holds it or the path is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor, without_locks) and is_at(path, descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, without_locks: bool) -> bool:
    """Try to lock; return True on success, `without_locks` if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without_locks
    return True


def is_at(path: Path, descriptor: int) -> bool:
    """Return True if the open file or folder is still the one at `path`."""
    with suppress(OSError):
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    return False


def _remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists and can be removed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
