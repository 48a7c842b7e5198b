"""Estimate the device time of a recorded step from its operations.

The estimate needs no GPU. An operation takes the longest of its kernels' launches, its bytes at
the memory's rate, and its matrix products at the rate of their precision. Defaults are of an H200.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

_KERNELS = {
    "sort": 13,
    "argsort": 13,
    "_embedding_bag_dense_backward": 20,
    "cumsum": 2,
    "cummax": 2,
}
"""Kernels of operations that launch more than one, as the profiler counts them on a GPU."""
_NO_KERNEL = {
    "_unsafe_view",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "lift_fresh_copy",
}
_BY_INDEX = {
    *("index_select", "index", "gather", "searchsorted", "_embedding_bag"),
    *("index_copy_", "index_add_", "index_put_", "index_copy", "index_add", "index_put"),
}
"""Operations that read or write some rows of their first argument."""
_WAITS = {
    *(
        "_local_scalar_dense",
        "equal",
        "is_nonzero",
        "nonzero",
        "masked_select",
        "bincount",
        "histc",
    ),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
}


@dataclass(frozen=True)
class Device:
    """Speed of a device.

    Attributes:
        kernel_s: shortest time of a kernel in a CUDA graph.
        bytes_per_s: rate of its memory.
        flop_per_s: rate of float32 matrix products of the step's sizes.
    """

    kernel_s: float = 2e-6
    bytes_per_s: float = 4.0e12
    flop_per_s: float = 50e12


@dataclass(frozen=True)
class RecordedWork:
    """Work of a recorded step.

    Attributes:
        operations: operations that launch kernels.
        kernels: kernels that they launch.
        waits: operations for which the host would wait.
        seconds: estimated time on the device.
    """

    operations: int
    kernels: int
    waits: int
    seconds: float


def work_of(traced: GraphModule, device: Device | None = None) -> RecordedWork:
    """Count and estimate the work of a trace by `make_fx`."""
    device = device or Device()
    operations = kernels = waits = 0
    seconds = 0.0
    for node in _launches(traced):
        name = node.target.overloadpacket.__name__  # type: ignore[union-attr]
        number = _KERNELS.get(name, 1)
        operations, kernels = operations + 1, kernels + number
        waits += name in _WAITS or _masks(name, node)
        seconds += max(
            number * device.kernel_s,
            _bytes(name, node) / device.bytes_per_s,
            _flop(name, node) / device.flop_per_s,
        )
    return RecordedWork(operations, kernels, waits, seconds)


def _launches(traced: GraphModule) -> Iterator[Node]:
    for node in traced.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        returns = node.target._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if not is_view and node.target.overloadpacket.__name__ not in _NO_KERNEL:
            yield node


def _tensors(values: Any) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves(values)
    values = [leaf.meta.get("val") if isinstance(leaf, Node) else leaf for leaf in leaves]
    return [each for each in pytree.tree_leaves(values) if isinstance(each, torch.Tensor)]


def _masks(name: str, node: Node) -> bool:
    """Return True for an index by a mask, which runs `nonzero` first."""
    if name not in ("index", "index_put", "index_put_"):
        return False
    return any(index.dtype == torch.bool for index in _tensors(node.args[1]))


def _bytes(name: str, node: Node) -> int:
    read, written = _tensors((node.args, node.kwargs)), _tensors(node.meta.get("val"))
    if name in _BY_INDEX:
        in_place = name.startswith(("index_copy", "index_add", "index_put"))
        read, written = (read[1:] * 2, []) if in_place else (read[1:] + written, written)
    return sum(each.numel() * each.element_size() for each in (*read, *written))


def _flop(name: str, node: Node) -> int:
    if name not in ("mm", "bmm", "addmm", "baddbmm", "linear"):
        return 0
    matrices = [each for each in _tensors(node.args) if each.dim() >= 2][-2:]
    return 2 * prod(matrices[0].shape) * int(matrices[1].shape[-1])
