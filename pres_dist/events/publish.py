"""A directory that appears at its place complete or not at all."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
from pathlib import Path

from pres_dist.errors import DataError
from pres_dist.events.columns import fsync
from pres_dist.events.storage import is_stream


class StreamExistsError(DataError):
    """The directory to write to is already there."""


class PartialDirectory:
    """A hidden directory beside ``target`` that takes its place once it is complete.

    Its name holds machine and process, so that a later writer can remove what a
    killed one left.
    """

    def __init__(self, target: Path, force: bool) -> None:
        self._target, self._force = target, force
        self._prefix = f".{target.name}.partial-{socket.gethostname()}-"
        self.path = target.parent / f"{self._prefix}{os.getpid()}"

    def create(self) -> None:
        """Make the directory; ``DataError`` when the target exists or cannot be written."""
        self._refuse_existing()
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            # A signal may end the process between here and whoever would call `remove`.
            atexit.register(self.remove)
            self.path.mkdir()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{self._target}: cannot write here: {reason}") from None

    def publish(self) -> None:
        """Move the directory, whose files are on disk already, to its place."""
        fsync(self.path)
        replaced = self.path.with_name(f"{self.path.name}.replaced")
        if os.path.lexists(self._target):
            self._refuse_existing()
            os.rename(self._target, replaced)
        os.rename(self.path, self._target)
        fsync(self._target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
        atexit.unregister(self.remove)

    def remove(self) -> None:
        """Remove what is there; nothing is after ``publish``."""
        atexit.unregister(self.remove)
        shutil.rmtree(self.path, ignore_errors=True)

    def _refuse_existing(self) -> None:
        if not os.path.lexists(self._target):
            return
        if not self._force:
            raise StreamExistsError(f"{self._target}: already exists; use --force to replace it")
        if not is_stream(self._target):
            raise StreamExistsError(
                f"{self._target}: already exists and is not a stored stream; --force replaces "
                "only streams"
            )

    def _remove_leftovers(self) -> None:
        """Remove what a killed writer of the same stream left on this machine."""
        for leftover in self._target.parent.glob(f"{self._prefix}*"):
            owner = leftover.name.removeprefix(self._prefix).split(".")[0]
            if owner.isdigit() and not _runs(int(owner)):
                shutil.rmtree(leftover, ignore_errors=True)


def _runs(process_id: int) -> bool:
    """Whether another process of that number runs; in a container numbers come again."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process_id != os.getpid()
