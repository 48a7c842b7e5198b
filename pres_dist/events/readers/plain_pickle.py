"""Safe reading of pickles that hold plain data.

A pickle is a program: loading one runs any code that its author wrote. This reader accepts the
built-in containers, numbers, texts and NumPy arrays of numbers and texts. It refuses every other
name that a pickle refers to, before anything is called.

NumPy's own classes are not exposed either. A pickle may call `numpy.ndarray` to read bytes as
addresses of objects, or give a dtype of numbers the flags of a dtype of objects; both read
memory outside the array. The stand-ins here accept only the bytes of numbers and texts.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.errors import DataError, first_line

_PLAIN_KINDS = "biufcSU"
_ONLY = "only numbers, texts, containers and NumPy arrays of them are read"


class _Dtype:
    """Stand-in for `numpy.dtype` that takes only the byte order from the pickled state."""

    def __init__(self, name: str, align: bool = False, copy: bool = True) -> None:
        self.plain = np.dtype(name)
        if not isinstance(name, str) or self.plain.kind not in _PLAIN_KINDS:
            raise pickle.UnpicklingError(f"{_ONLY}, got dtype {name!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.plain = self.plain.newbyteorder(state[1])


class _Array(np.ndarray):
    """Array that accepts its content only as bytes."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if type(content) is not bytes:
            raise pickle.UnpicklingError(f"{_ONLY}, got an array of {type(content).__name__}")
        super().__setstate__((1, shape, dtype.plain, fortran, content))


def _new_array(*_: Any) -> _Array:
    """Return an array without content, in place of `numpy._core.multiarray._reconstruct`."""
    return np.empty(0, np.int8).view(_Array)


def _array_from(content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    flat = np.frombuffer(content, dtype.plain)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    return np.frombuffer(content, dtype.plain, count=1)[0]


def _latin1(text: str, encoding: str) -> bytes:
    """Return bytes that protocol 2 and older store as Latin-1 text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"{_ONLY}, got the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Return empty bytes, which protocol 2 stores as a call of `bytes`."""
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
    """Return the content of a pickle; raise ``DataError`` if it is damaged or not plain data."""
    try:
        with file.open("rb") as opened:
            return _PlainUnpickler(opened).load()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle raises many kinds of errors
        raise DataError(
            f"{file}: cannot be read as a pickle of plain data: {first_line(error)}"
        ) from None
