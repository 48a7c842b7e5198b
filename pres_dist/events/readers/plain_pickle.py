"""Pickles of plain data, read without running what else a pickle may hold.

A pickle is a program: loading one runs whatever its author wrote. This reader knows the
built-in containers, numbers, texts and NumPy arrays of numbers and texts, and refuses every
other name that a pickle asks for before anything of it is called.

NumPy's own names are not handed out either. A pickle may call `numpy.ndarray` to read bytes
as addresses of objects, or give a dtype of numbers the flags of one of objects; both read
memory that was never theirs. What stands in for them here takes the bytes of numbers alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.errors import DataError

_PLAIN_KINDS = "biufcSU"
_ONLY = "only numbers, texts, containers and NumPy arrays of them are read"


class _Dtype:
    """Stands in for a `numpy.dtype`: of its state only the order of bytes is taken."""

    def __init__(self, name: str, align: bool = False, copy: bool = True) -> None:
        self.plain = np.dtype(name)
        if not isinstance(name, str) or self.plain.kind not in _PLAIN_KINDS:
            raise pickle.UnpicklingError(f"{_ONLY}, got dtype {name!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.plain = self.plain.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that takes its content from bytes alone."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if type(content) is not bytes:
            raise pickle.UnpicklingError(f"{_ONLY}, got an array of {type(content).__name__}")
        super().__setstate__((1, shape, dtype.plain, fortran, content))


def _new_array(*_: Any) -> _Array:
    """An array that waits for its state, as `numpy._core.multiarray._reconstruct` makes it."""
    return np.empty(0, np.int8).view(_Array)


def _array_from(content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    flat = np.frombuffer(content, dtype.plain)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    return np.frombuffer(content, dtype.plain, count=1)[0]


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 and older spell bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"{_ONLY}, got the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 spells none of them."""
    return b""


_STAND_INS: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("numpy", "ndarray"): "ndarray",  # named as an argument, never called
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _array_from,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy.core."):  # its name before NumPy 2
            module = module.replace("numpy.core", "numpy._core", 1)
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        raise pickle.UnpicklingError(f"{_ONLY}, got {module}.{name}")


def read_plain_pickle(file: Path) -> Any:
    """What the pickle holds; ``DataError`` for a damaged one, and for more than plain data."""
    try:
        with file.open("rb") as opened:
            return _PlainUnpickler(opened).load()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle raises many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{file}: cannot be read as a pickle of plain data: {reason}") from None
