"""Where a step would make the host wait for a GPU; told on the CPU, without one.

A GPU works through what it is given while the host goes on. The host must wait wherever it
asks for a value, or for a result whose size depends on values. Both are seen at the calls
that Torch makes, on whichever device they run.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pres_dist.step.stages import StageClock

_PACKAGE = Path(__file__).parents[1]
_VALUES = {"_local_scalar_dense", "equal", "is_nonzero"}
_SIZES = {
    *("nonzero", "masked_select", "bincount", "histc"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
}
_ON_THE_CPU_ALONE = {"model/time_encoding.py:rows"}
"""Places that a GPU's tensors never come to."""
_TO_HOST = ("cpu", "numpy", "tolist", "__array__")


@dataclass(frozen=True, order=True)
class Wait:
    """One place at which the host would wait.

    Attributes:
        stage: of the step, see `StageClock`; `other` between them.
        operation: what asks, by Torch's name.
        place: the line of pres_dist that leads there, as `step/writing.py:_endpoints`.
        line: its number.
    """

    stage: str
    operation: str
    place: str
    line: int


@contextmanager
def waits(clock: StageClock) -> Iterator[Counter[Wait]]:
    """Counts the waits of the block, by stage.

    Backward passes are part of it. Copies to a GPU, and waits inside of other libraries, are not
    seen; nor is what only a GPU's own kernels do.

    Args:
        clock: tells the stage.
    """
    found: Counter[Wait] = Counter()

    def note(operation: str) -> None:
        place, line = _caller()
        if place in _ON_THE_CPU_ALONE:
            return
        found[Wait(clock.stage or "other", operation, place, line)] += 1

    with _Calls(note), _Operations(note):
        yield found


class _Operations(TorchDispatchMode):
    """What asks for values, or has a result of a size that depends on them."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _VALUES | _SIZES or _masks(name, args) or _counts(name, args, kwargs):
            self._note(name)
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """What takes a tensor to the host: on the CPU it is there, and no operation shows it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        on_host = name in _TO_HOST or (name == "to" and "cpu" in _given(args[1:], kwargs))
        if on_host and args and isinstance(args[0], Tensor):
            self._note(name)
        return func(*args, **(kwargs or {}))


def _masks(name: str, args: Sequence[Any]) -> bool:
    """Whether it indexes by a mask, which is `nonzero` and then an index."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    indices = (index for index in args[1] if index is not None)
    return any(index.dtype in (torch.bool, torch.uint8) for index in indices)


def _counts(name: str, args: Sequence[Any], kwargs: Any) -> bool:
    """Whether it repeats by counts, and is not told how many that makes."""
    if name != "repeat_interleave":
        return False
    return (kwargs or {}).get("output_size") is None


def _given(args: Sequence[Any], kwargs: Any) -> list[str]:
    """Names among the arguments. Devices are left out: here, they are all that of the tensors."""
    return [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, str)]


def _caller() -> tuple[str, int]:
    """The innermost line of this package that is on the way here."""
    frame = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file != Path(__file__) and _PACKAGE in file.parents:
            place = f"{file.relative_to(_PACKAGE).as_posix()}:{frame.f_code.co_name}"
            return place, frame.f_lineno
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "elsewhere", 0
