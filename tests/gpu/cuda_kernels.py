"""Operations that CUDA can run, by the table of operators that torch's wheel contains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchgen
import yaml

_TABLE = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot"}
"""Operations that CUDA has for floats, and the CPU for integers too."""
_NO_FIXED_ORDER = {
    *("put_", "histc", "median", "kthvalue", "nll_loss2d_forward", "reflection_pad1d_backward"),
    *("_embedding_bag_dense_backward", "_ctc_loss_backward", "grid_sampler_2d_backward"),
}
"""Operations without a deterministic kernel, by `torch.use_deterministic_algorithms`; `cumsum` of
floats is another."""


def check_runs_on_cuda(func: Any, dtype: torch.dtype | None) -> None:
    """Raise NotImplementedError if CUDA has no kernel of this operation for this type.

    With deterministic algorithms, raise RuntimeError if the kernel adds in no fixed order.
    """
    name, overload = func._schema.name.partition("::")[2], func._schema.overload_name
    if not _has_kernel(f"{name}.{overload}" if overload else name):
        raise NotImplementedError(f"Could not run '{name}' with arguments from the 'CUDA' backend")
    if name in _PRODUCTS and dtype is not None and not dtype.is_floating_point:
        raise NotImplementedError(f'"{name}_cuda" not implemented for {dtype}')
    unordered = name == "cumsum" and dtype is not None and dtype.is_floating_point
    if torch.are_deterministic_algorithms_enabled() and (unordered or name in _NO_FIXED_ORDER):
        raise RuntimeError(f"{name}_cuda does not have a deterministic implementation")


@contextmanager
def fixed_order() -> Iterator[None]:
    """Use deterministic algorithms within the block."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


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
