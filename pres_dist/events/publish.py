"""Atomic creation of a directory: it appears at its target complete or not at all."""

from __future__ import annotations

import atexit
import errno
import os
from contextlib import suppress
from pathlib import Path

from pres_dist.errors import DataError
from pres_dist.events.storage import is_stream, others_in
from pres_dist.files import user_path
from pres_dist.staging import Staged, restore
from pres_dist.wording import setting

_SHOWN = 5


class StreamExistsError(DataError):
    """Error for an output directory that already exists."""


def stored_at(path: str | Path) -> Path:
    """Return the path of a stored stream, and restore a stream that a killed import moved away."""
    place = user_path(path)
    with suppress(OSError):
        restore(place.absolute())
    return place


class PartialDirectory:
    """Hidden directory next to ``target`` that is renamed to it once complete."""

    def __init__(self, target: Path, force: bool) -> None:
        self._target, self._force = target, force
        self._staged = Staged(target, folder=True)

    @property
    def path(self) -> Path:
        """Place to write to, once `create` has returned."""
        return self._staged.path

    def create(self) -> None:
        """Create the directory; raise ``DataError`` if the target exists or is not writable."""
        try:
            restore(self._target)
            self._refuse_existing()
            self._target.parent.mkdir(parents=True, exist_ok=True)
            # A signal may end the process before the caller can call `remove`.
            atexit.register(self.remove)
            self._staged.create()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{self._target}: cannot write here: {reason}") from None

    def publish(self) -> None:
        """Rename the directory to its target; its files must already be on disk."""
        self._refuse_existing()
        try:
            self._staged.publish(replace=self._force)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                self._refuse_existing()
            raise
        atexit.unregister(self.remove)

    def remove(self) -> None:
        """Remove the hidden directory, if it exists; after ``publish`` it does not."""
        atexit.unregister(self.remove)
        self._staged.discard()

    def _refuse_existing(self) -> None:
        if not os.path.lexists(self._target):
            return
        if not self._force:
            raise StreamExistsError(
                f"{self._target}: already exists; use {setting('force')} to replace it"
            )
        if not is_stream(self._target):
            raise StreamExistsError(
                f"{self._target}: already exists and is not a stored stream; {setting('force')} "
                "replaces only streams"
            )
        if others := others_in(self._target):
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            raise StreamExistsError(
                f"{self._target}: {setting('force')} replaces only what an import has written; "
                f"move elsewhere first: {', '.join(others[:_SHOWN])}{more}"
            )
