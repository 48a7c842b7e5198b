"""Count the floating point operations and bytes of a step, operation by operation.

Floating point operations are counted for matrix products by torch's formulas (2 for a
multiplication and its addition), and for the two products that read rows in place by the formulas
here. Bytes are counted for the tensors that an operation reads and writes; for a table read by
index, only its rows count. Views count no bytes.
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
    """Work of a stage.

    Attributes:
        flops: floating point operations.
        bytes: bytes read and written.
        gemms: number of times each matrix product is computed.
    """

    flops: int = 0
    bytes: int = 0
    gemms: Counter[Gemm] = field(default_factory=Counter)


class WorkCounter(TorchDispatchMode):
    """Dispatch mode that counts the work in a block by stage, including backward passes.

    Args:
        clock: clock with the current stage, see `StageClock.stage`; `other` between stages.

    Attributes:
        work: work by stage.
    """

    def __init__(self, clock: StageClock) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
    if name in _WRITTEN_BY_INDEX:  # rows of the table are written, and read too by an add
        *indices, written = given[1:]
        return _sizes(indices) + _size(written) * (3 if "add" in name else 2)
    return made + _sizes(given)


def _written(schema: Any, args: Sequence[Any]) -> int:
    """Return the bytes that an operation without a result writes in place, as in optimizers."""
    if schema.returns:
        return 0
    changed = (
        value
        for argument, value in zip(schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return sum(_sizes(_tensors(value)) for value in changed)


def _rows_read(given: Sequence[Tensor]) -> int:
    """Return the bytes of the rows that an embedding bag sums."""
    table_Xd, index = given[:2]
    return index.numel() * table_Xd.shape[1] * table_Xd.element_size()


def _tensors(value: Any) -> list[Tensor]:
    return [each for each in tree_leaves(value) if isinstance(each, Tensor)]


def _sizes(tensors: Iterable[Tensor]) -> int:
    return sum(_size(each) for each in tensors)


def _size(tensor: Tensor) -> int:
    """Return the bytes of a tensor's storage; expanded dimensions count once."""
    if tensor.layout != torch.strided:
        return tensor._nnz() * tensor.element_size()
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    # An expanded dimension has stride 0 and no memory of its own.
    own = [size for size, stride in axes if stride or not size]
    return math.prod(own) * tensor.element_size()
