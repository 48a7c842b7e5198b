"""Atomic file writes: a crash leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pres_dist.errors import DataError
from pres_dist.staging import Staged, sync

UNSEALED = "0" * 64
"""Placeholder in a text for the SHA-256 that `sealed` inserts."""

_log = logging.getLogger(__name__)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def user_path(text: str | Path) -> Path:
    """Return a path with a leading `~` expanded to the home folder.

    Raises:
        DataError: the text is empty, as that of a shell variable that is not set.
    """
    if not str(text):
        raise DataError("a path must not be empty, got ''")
    return Path(os.path.expanduser(text))


def local_path(text: str | Path) -> Path:
    """Return a local path with a leading `~` expanded to the home folder.

    Raises:
        DataError: the text is a URL, such as ``https://host/file.csv``, or empty.
    """
    if _ADDRESS.match(str(text)):
        raise DataError(f"{text}: must be a path on this machine, got an address")
    return user_path(text)


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Replace `path` by `content`: write a temporary file, fsync, rename, fsync the folder.

    Text is written as UTF-8. A reader sees either the complete old file or the complete new one.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def keep(path: Path, content: str) -> None:
    """Write a file that only records printed results; warn if it cannot be written.

    A read-only run folder or a full disk must not cost the result of a long computation.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        _log.warning("%s: not kept: %s", path, error.strerror)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that durably replaces `path` when the block ends.

    If the block raises, `path` is unchanged and the temporary file is removed.
    """
    staged = Staged(path)
    try:
        staged.create()
        yield staged.path
        staged.publish()
    except BaseException:
        staged.discard()
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary folder that durably becomes `path` when the block ends.

    If the block raises, the temporary folder is removed. An empty folder at `path` is replaced.

    Raises:
        OSError: `path` exists and is not an empty folder, or it cannot be written.
    """
    staged = Staged(path, folder=True)
    try:
        staged.create()
        yield staged.path
        for inside in staged.path.rglob("*"):
            sync(inside)
        staged.publish(replace=False)
    except BaseException:
        staged.discard()
        raise


def cache_directory() -> Path:
    """Return the folder for data that can be rebuilt: built-in streams, sorted histories."""
    configured = os.environ.get("PRES_DIST_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "pres_dist"


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a regular file's content."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; raise OSError for a FIFO, a device or a folder.

    Opening a FIFO that nobody writes to would wait forever, and a device has no end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "must be a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file; OSError as in `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def sealed(text: str) -> str:
    """Replace the `UNSEALED` in a text by the SHA-256 of that text."""
    return text.replace(UNSEALED, hashlib.sha256(text.encode()).hexdigest(), 1)


def seal_of(content: bytes, seal: str) -> str:
    """Return the SHA-256 that `sealed` would insert in place of `seal`."""
    return hashlib.sha256(content.replace(seal.encode(), UNSEALED.encode(), 1)).hexdigest()
