"""Detect host-device synchronizations of a step, on the CPU and without a GPU.

A GPU runs asynchronously from the host. The host must wait whenever it requests a value,
or a result whose size depends on values. Both are visible in Torch's operator calls, on
any device.
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
"""Places that never handle GPU tensors."""
_TO_HOST = ("cpu", "numpy", "tolist", "__array__")


@dataclass(frozen=True, order=True)
class Wait:
    """One place at which the host would wait.

    Attributes:
        stage: stage of the step, see `StageClock`; `other` between stages.
        operation: Torch's name of the operation that synchronizes.
        place: file and function in pres_dist, such as `step/writing.py:_endpoints`.
        line: line number.
    """

    stage: str
    operation: str
    place: str
    line: int


@contextmanager
def waits(clock: StageClock) -> Iterator[Counter[Wait]]:
    """Count the waits inside the `with` block.

    Backward passes are included. Copies to a GPU, waits inside other libraries and waits in
    GPU-only kernels are not detected.

    Args:
        clock: provides the current stage.
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
    """Detector of operations that return values, or results whose size depends on values."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._note = note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _VALUES | _SIZES or _masks(name, args) or _counts(name, args, kwargs):
            self._note(name)
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Detector of copies to the host: on the CPU they dispatch no operation."""

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
    """Return True if the operation indexes by a mask, which runs `nonzero` first."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    indices = (index for index in args[1] if index is not None)
    return any(index.dtype in (torch.bool, torch.uint8) for index in indices)


def _counts(name: str, args: Sequence[Any], kwargs: Any) -> bool:
    """Return True if the operation repeats by counts without a given output size."""
    if name != "repeat_interleave":
        return False
    return (kwargs or {}).get("output_size") is None


def _given(args: Sequence[Any], kwargs: Any) -> list[str]:
    """Return the string arguments. Devices are left out: all are the tensors' own device."""
    return [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, str)]


def _caller() -> tuple[str, int]:
    """Return the innermost line of this package on the call stack."""
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
