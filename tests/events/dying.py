"""A function in a process of its own that is killed, or fails, at one change of the disk.

code = at_change(3, DIE, write, path)       # -9; 0 once there is no such change
"""

from __future__ import annotations

import errno
import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from pres_dist import staging
from pres_dist.errors import PresDistError

DIE, FAIL = "die", "fail"
NONE, DONE, REFUSED = 0, 3, 2
"""Exit codes: no such change; done in spite of it; an error for the user."""
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"}
LIFE_S = 60


def at_change(
    point: int, what: str, function: Callable[..., object], *arguments: Any, exchange: bool = True
) -> int:
    """Exit code of a process in which the change number `point` does not happen.

    Args:
        point: from 0, of renames, exchanges, removals, new folders, modes and syncs.
        what: `DIE` by SIGKILL, or `FAIL` once with EIO.
        function: is called with the arguments; raises `PresDistError` for the user.
        arguments: for the function.
        exchange: whether the file system can exchange two names.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(
        ["dying", "pres_dist.events.writer", "pres_dist.events.importer"]
    )
    life = context.Process(target=_live, args=(point, what, function, arguments, exchange))
    life.start()
    life.join(LIFE_S)
    assert life.exitcode is not None, "the process does not end"
    return life.exitcode


def _live(
    point: int,
    what: str,
    function: Callable[..., object],
    arguments: tuple[Any, ...],
    exchange: bool,
) -> None:
    left = [point]

    def change() -> None:
        left[0] -= 1
        if left[0] == -1:
            if what == DIE:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            change()
            return original(*given)

        return call

    def cannot(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    os.fsync = watched(os.fsync)
    staging._rename_exchange = watched(staging._rename_exchange) if exchange else cannot
    sys.addaudithook(lambda event, _: change() if event in _CHANGES else None)
    try:
        function(*arguments)
    except PresDistError:
        os._exit(REFUSED)
    os._exit(NONE if left[0] >= 0 else DONE)
