"""Operations that CUDA can run, by the table of operators that torch's wheel contains."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchgen
import yaml

_TABLE = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot"}
"""Operations that CUDA has for floats, and the CPU for integers too."""


def check_runs_on_cuda(func: Any, dtype: torch.dtype | None) -> None:
    """Raise NotImplementedError if CUDA has no kernel of this operation for this type."""
    name, overload = func._schema.name.partition("::")[2], func._schema.overload_name
    if not _has_kernel(f"{name}.{overload}" if overload else name):
        raise NotImplementedError(f"Could not run '{name}' with arguments from the 'CUDA' backend")
    if name in _PRODUCTS and dtype is not None and not dtype.is_floating_point:
        raise NotImplementedError(f'"{name}_cuda" not implemented for {dtype}')


@cache
def _has_kernel(name: str) -> bool:
    entry = _entries().get(name)
    if entry is None or "ufunc_inner_loop" in entry:  # torch generates the kernels
        return True
    if "structured_delegate" in entry:
        return _has_kernel(entry["structured_delegate"])
    keys = {key.strip() for names in entry.get("dispatch", {}) for key in names.split(",")}
    return not keys or any(key == "CUDA" or key.startswith("Composite") for key in keys)


@cache
def _entries() -> dict[str, dict[str, Any]]:
    table = yaml.load(_TABLE.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {entry["func"].partition("(")[0]: entry for entry in table}
