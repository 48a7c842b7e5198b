"""Failpoints: the few places of a run that check whether a fault is due.

Without PRES_DIST_FAULTS each check is one look at an empty dict.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pres_dist.faults.plan import VARIABLE, Fault, FaultPlan, Place

_SIGNALS = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "terminate": signal.SIGTERM,
}
_SYSTEM_CALLS = ("open", "write", "fsync", "rename")


@dataclass
class _Process:
    """Pending faults of this process.

    Attributes:
        folder: holds a file for each fault that has happened.
        pending: faults by their number in the plan.
        passed: number of times that the place of a pending fault was reached when it was due.
        step: step of the most recent failpoint that named one.
    """

    folder: Path = Path()
    pending: dict[int, Fault] = field(default_factory=dict)
    passed: Counter[int] = field(default_factory=Counter)
    step: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_process = _Process()


def set_identity(*, rank: int | None = None, shard: int | None = None) -> None:
    """Set which worker or memory shard this process is, and read the faults planned for it.

    Raises:
        ConfigError: PRES_DIST_FAULTS holds no plan.
    """
    global _process
    _process = _Process()
    if VARIABLE not in os.environ:
        return
    plan = FaultPlan.from_json(os.environ[VARIABLE])
    assert plan.folder is not None
    plan.folder.mkdir(parents=True, exist_ok=True)
    own = {
        number: fault
        for number, fault in enumerate(plan.faults)
        if (fault.rank, fault.shard) == (rank, shard) and not _mark(plan.folder, number).exists()
    }
    _process = _Process(plan.folder, own)
    if any(fault.place in _SYSTEM_CALLS for fault in own.values()):
        from pres_dist.faults.system_calls import watch_files

        watch_files(failpoint)


def armed() -> bool:
    """Return True if any fault is pending in this process."""
    return bool(_process.pending)


def failpoint(place: Place, step: int | None = None) -> None:
    """Trigger the faults that are due at this place.

    Args:
        place: name of this failpoint.
        step: see `Fault`; None keeps the step of the last call.
    """
    if not _process.pending:
        return
    while (fault := take(place, step)) is not None:
        _let_happen(fault)


def take(place: Place, step: int | None = None) -> Fault | None:
    """Return a fault that is due here, or None; it is recorded, so the caller must trigger it."""
    process = _process
    with process.lock:
        if step is not None:
            process.step = step
        for number, fault in process.pending.items():
            if fault.place == place and process.step >= fault.step:
                process.passed[number] += 1
                if process.passed[number] <= fault.passes:
                    continue
                del process.pending[number]
                return fault if _note(process.folder, number) else None
    return None


def _let_happen(fault: Fault) -> None:
    if fault.place == "write":
        from pres_dist.faults.system_calls import break_next_write

        break_next_write()
    elif fault.verb == "stall":
        time.sleep(fault.ms / 1000)
    else:
        os.kill(os.getpid(), _SIGNALS[fault.verb])


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
