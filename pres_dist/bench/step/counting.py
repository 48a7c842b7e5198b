"""Floating point operations and bytes of a step, counted operation by operation.

Operations are those of matrix products, by torch's own formulas (2 for a multiplication and its
addition), and of the two products that read rows in place, by ours. Bytes are those of the tensors
that an operation reads and writes; of a table that is read by index, of the rows alone. Views
move nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from pres_dist.step.stages import StageClock

Gemm = tuple[str, tuple[torch.Size, ...]]
"""Name and shapes of a matrix product."""

GEMMS = ("mm", "addmm", "bmm", "baddbmm")
_READ_BY_INDEX = {"index_select", "gather", "index", "_embedding_bag", "embedding"}
_WRITTEN_BY_INDEX = {
    *("index_add_", "index_add", "index_copy_", "index_copy"),
    *("index_put_", "_index_put_impl_", "scatter_add_", "scatter_"),
}


@dataclass
class Work:
    """What a stage does.

    Attributes:
        flops: floating point operations.
        bytes: read and written.
        gemms: matrix products, by how often each is made.
    """

    flops: int = 0
    bytes: int = 0
    gemms: Counter[Gemm] = field(default_factory=Counter)


class WorkCounter(TorchDispatchMode):
    """Counts the work of a block, backward passes included, by the stage that a clock tells.

    Args:
        clock: see `StageClock.stage`; `other` between two.

    Attributes:
        work: by stage.
    """

    def __init__(self, clock: StageClock) -> None:
        super().__init__()
        self._clock = clock
        self.work: defaultdict[str, Work] = defaultdict(Work)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        work = self.work[self._clock.stage or "other"]
        work.flops += _flops(func.overloadpacket, name, args, kwargs, result)
        if not func.is_view:
            work.bytes += _bytes(name, args, kwargs, result) + _written(func._schema, args)
        if name in GEMMS:
            work.gemms[name, tuple(each.shape for each in args if isinstance(each, Tensor))] += 1
        return result


def _flops(packet: Any, name: str, args: Sequence[Any], kwargs: Any, result: Any) -> int:
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result))
    if name.startswith("_embedding_bag") and "backward" not in name:
        table_Xd, index = args[:2]
        return 2 * index.numel() * table_Xd.shape[1]
    if name == "sparse_sampled_addmm":
        pattern, left_Nd = args[:2]
        return 2 * pattern._nnz() * left_Nd.shape[1]
    if name in ("mv", "addmv", "dot"):
        return 2 * max(each.numel() for each in args if isinstance(each, Tensor))
    return 0


def _bytes(name: str, args: Sequence[Any], kwargs: Any, result: Any) -> int:
    given = _tensors((args, kwargs))
    made = _sizes(_tensors(result))
    if name in ("empty", "empty_like", "new_empty", "empty_strided"):
        return 0
    if name in _READ_BY_INDEX or name.startswith("_embedding_bag"):
        index = _sizes(given[1:])
        rows = _rows_read(given) if name.startswith("_embedding_bag") else made
        return rows + index + made
    if name == "sparse_sampled_addmm":
        pattern, left_Nd = args[:2]
        return pattern._nnz() * left_Nd.shape[1] * left_Nd.element_size() + _size(left_Nd)
    if name in _WRITTEN_BY_INDEX:  # the table's rows are read, where they are added to, and written
        *indices, written = given[1:]
        return _sizes(indices) + _size(written) * (3 if "add" in name else 2)
    return made + _sizes(given)


def _written(schema: Any, args: Sequence[Any]) -> int:
    """Bytes that are written in place by an operation that returns nothing, as optimizers do."""
    if schema.returns:
        return 0
    changed = (
        value
        for argument, value in zip(schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return sum(_sizes(_tensors(value)) for value in changed)


def _rows_read(given: Sequence[Tensor]) -> int:
    """Bytes of the rows that a bag sums up."""
    table_Xd, index = given[:2]
    return index.numel() * table_Xd.shape[1] * table_Xd.element_size()


def _tensors(value: Any) -> list[Tensor]:
    return [each for each in tree_leaves(value) if isinstance(each, Tensor)]


def _sizes(tensors: Iterable[Tensor]) -> int:
    return sum(_size(each) for each in tensors)


def _size(tensor: Tensor) -> int:
    """Bytes of a tensor; of one that repeats what it holds, of what it holds."""
    if tensor.layout != torch.strided:
        return tensor._nnz() * tensor.element_size()
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    own = [size for size, stride in axes if stride or not size]
    return math.prod(own) * tensor.element_size()
