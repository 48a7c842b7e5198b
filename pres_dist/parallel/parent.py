"""Processes that end when the process that started them dies.

A worker of torchrun has its own session, so no signal reaches it when its agent is killed.
On Linux the kernel sends a chosen signal when the parent dies; elsewhere a thread polls for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

AGENT = "PRES_DIST_AGENT"
"""Process id of the agent that starts the workers; bare torchrun does not set it."""
LAUNCHER = "PRES_DIST_LAUNCHER"
"""Process id of the script that starts the agent."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 1.0


def end_with_agent() -> None:
    """End this process by SIGKILL when the agent of torchrun that started it dies.

    Without an agent this does nothing. Call it in the main thread, as early as possible.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    end_with(os.getppid(), signal.SIGKILL)
    if (agent := os.environ.get(AGENT)) is None or int(agent) == os.getppid():
        return
    import psutil

    # A process between the agent and this one, or the agent died before the kernel was asked.
    if int(agent) not in [parent.pid for parent in psutil.Process().parents()]:
        os.kill(os.getpid(), signal.SIGKILL)


def end_with_launcher() -> bool:
    """Request SIGTERM for this process when the script that started it dies.

    Returns:
        True if there is such a script.
    """
    launcher = os.environ.pop(LAUNCHER, None)
    if launcher is None:
        return False
    end_with(int(launcher), signal.SIGTERM)
    return True


def become_reaper() -> bool:
    """Adopt the orphans of all descendants; return True if the system supports it."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int, number: signal.Signals) -> None:
    """Request a signal for this process when its parent dies; at once if it already has."""

    def end_self() -> None:
        os.kill(os.getpid(), number)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        end_self()

    if not _prctl(_PR_SET_PDEATHSIG, int(number)):
        threading.Thread(target=watch, name="parent", daemon=True).start()
    # It may have died before the kernel was asked. A process without a parent belongs to process 1,
    # which in a container may be the true parent; that one is a Python program, as an agent is.
    if os.getppid() != parent or (parent == 1 and not _is_python(parent)):
        end_self()


def _prctl(option: int, value: int) -> bool:
    """Set an attribute of this process; return True if the system has accepted it."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    return False


def _is_python(process: int) -> bool:
    try:
        return b"python" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # not Linux, or not readable: do not end the process
        return True
