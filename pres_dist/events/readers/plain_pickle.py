"""Pickles of plain data, read without running what else a pickle may hold.

A pickle is a program: loading one runs whatever its author wrote. This reader knows the
built-in containers, numbers, texts and NumPy arrays of numbers, and refuses every other
name that a pickle asks for before anything of it is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from pres_dist.errors import DataError

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    # How protocol 2 and older spell bytes.
    ("_codecs", "encode"),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy.core."):  # its name before NumPy 2
            module = module.replace("numpy.core", "numpy._core", 1)
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"only numbers, texts, containers and NumPy arrays are read, got {module}.{name}"
        )


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
