"""Counts of what a block asks of the simulated device: operations, and waits of the host.

Both are counted by stage of the step and by line of pres_dist.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pres_dist
from pres_dist.step.stages import StageClock

Kind = Literal["launch", "value", "size", "copy"]

_PACKAGE = f"{Path(pres_dist.__file__).parent}/"
_KERNELS = {"sort": 13, "argsort": 13, "_unique2": 20, "nonzero": 4, "cumsum": 2, "cummax": 2}
"""Approximate number of kernels of CUDA's operations; other operations have one."""


@dataclass(frozen=True, order=True)
class Note:
    """A line that asks something of the device.

    Attributes:
        stage: stage of the step; `other` between stages.
        kind: an operation is launched; or the host waits: for a value, for a size that depends
            on values, or for a copy.
        operation: Torch's name, without namespace and overload.
        place: file and function, such as `step/writing.py:_endpoints`.
        line: line number.
    """

    stage: str
    kind: Kind
    operation: str
    place: str
    line: int


@dataclass
class Counts:
    """Operations and waits of a block, in all threads."""

    clock: StageClock
    notes: Counter[Note] = field(default_factory=Counter)

    @property
    def waits(self) -> Counter[Note]:
        """All notes except launches."""
        return Counter({note: n for note, n in self.notes.items() if note.kind != "launch"})

    def operations(self) -> dict[str, int]:
        """Return the number of launched operations by stage."""
        return self._by_stage(self.notes - self.waits)

    def num_waits(self) -> dict[str, int]:
        """Return the number of waits by stage."""
        return self._by_stage(self.waits)

    def kernels(self) -> int:
        """Return the approximate number of kernels on CUDA."""
        launches = (self.notes - self.waits).items()
        return sum(_KERNELS.get(note.operation, 1) * times for note, times in launches)

    def listed(self) -> str:
        """Return the waits, one per line, for an error message."""
        return "\n".join(f"{times} x {note}" for note, times in sorted(self.waits.items()))

    @staticmethod
    def _by_stage(notes: Counter[Note]) -> dict[str, int]:
        total: Counter[str] = Counter()
        for each, times in notes.items():
            total[each.stage] += times
        return dict(total)


_open: list[Counts] = []


@contextmanager
def counted(clock: StageClock | None = None) -> Iterator[Counts]:
    """Count inside the block; `clock` provides the stage."""
    counts = Counts(clock or StageClock())
    _open.append(counts)
    try:
        yield counts
    finally:
        _open.remove(counts)


def note(kind: Kind, operation: str) -> None:
    """Count an operation or a wait, at the innermost line of pres_dist on the call stack."""
    if not _open:
        return
    place, line = caller()
    for counts in _open:
        counts.notes[Note(counts.clock.stage or "other", kind, operation, place, line)] += 1


def caller() -> tuple[str, int]:
    """Return the innermost line of pres_dist on the call stack: file and function, and line."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            return f"{file.removeprefix(_PACKAGE)}:{frame.f_code.co_name}", frame.f_lineno
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "elsewhere", 0
