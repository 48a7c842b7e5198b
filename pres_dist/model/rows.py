"""Table rows that queries read, and the products that attention computes from them.

Neighbors of different queries are often the same node or the same event. On the CPU,
products read the table's rows in place. This avoids a [Q, K, d] tensor of them, which
would be written once and read four times in a step.

Shapes: Q queries, H heads, K rows a query, X rows of the table, d numbers a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.model.shapes import shapes_are_fixed

_QUERIES_AT_A_TIME = 512


@dataclass(frozen=True)
class Rows:
    """K rows of a table for each query.

    Attributes:
        table_Xd: the table.
        index_QK: row indices into the table.
        in_order: True if the indices are 0, 1, 2 and so on.
    """

    table_Xd: Tensor
    index_QK: Tensor
    in_order: bool = False

    @property
    def dim(self) -> int:
        """Size of a row."""
        return self.table_Xd.shape[1]

    @staticmethod
    def of(dense_QKd: Tensor) -> Rows:
        """Return rows without sharing between queries."""
        table_Xd = dense_QKd.flatten(0, 1)
        index_X = torch.arange(table_Xd.shape[0], device=dense_QKd.device)
        return Rows(table_Xd, index_X.view(dense_QKd.shape[:2]), in_order=True)

    @cached_property
    def dense_QKd(self) -> Tensor:
        """The rows, copied by index_select: the backward of [] is far more expensive."""
        rows = self.table_Xd
        if not self.in_order:
            rows = rows.index_select(0, self.index_QK.flatten())
        return rows.view(*self.index_QK.shape, self.dim)


def dots(queries_HQd: Tensor, rows: Rows, onto_HQK: Tensor | None = None) -> Tensor:
    """Return [H, Q, K] inner products of each head's query and its rows; not differentiable.

    With `onto_HQK`, they are added to it in place.
    """
    if not _in_place(queries_HQd, rows):
        factors = queries_HQd.transpose(0, 1), rows.dense_QKd.mT
        if onto_HQK is None:
            return torch.bmm(*factors).transpose(0, 1)
        return onto_HQK.transpose(0, 1).baddbmm_(*factors).transpose(0, 1)
    num_heads, num_queries, dim = queries_HQd.shape
    index_NK, table_Xd = _for_heads(rows, num_heads), rows.table_Xd
    num, each = index_NK.shape
    first_N = torch.arange(0, num * each + 1, each)
    _warn_once_in_vain()
    sought = torch.sparse_csr_tensor(
        first_N,
        index_NK.flatten(),
        queries_HQd.new_zeros(num * each),
        size=(num, table_Xd.shape[0]),
    )
    flat_Nd = queries_HQd.reshape(num, dim)
    found = torch.sparse.sampled_addmm(sought, flat_Nd, table_Xd.t(), beta=0.0)
    found_HQK = found.values().view(num_heads, num_queries, each)
    return found_HQK if onto_HQK is None else onto_HQK.add_(found_HQK)


def sums(weights_HQK: Tensor, rows: Rows) -> Tensor:
    """Return [H, Q, d] sums of each query's rows, weighted per head; not differentiable."""
    if not _in_place(weights_HQK, rows):
        return torch.einsum("hqk,qkd->hqd", weights_HQK, rows.dense_QKd)
    num_heads, num_queries, each = weights_HQK.shape
    summed_Nd = F.embedding_bag(
        _for_heads(rows, num_heads),
        rows.table_Xd,
        per_sample_weights=weights_HQK.reshape(-1, each),
        mode="sum",
    )
    return summed_Nd.view(num_heads, num_queries, rows.dim)


def sums_of_few(chosen_QK: Tensor, rows: Rows) -> Tensor:
    """Return [Q, d] sums of each query's chosen rows, assumed to be few; differentiable."""
    table_Xd, index_QK = rows.table_Xd, rows.index_QK
    if _in_place(table_Xd, rows):
        query_n, _ = chosen_QK.nonzero(as_tuple=True)
        chosen_nd = table_Xd.index_select(0, index_QK[chosen_QK])
        return table_Xd.new_zeros(index_QK.shape[0], rows.dim).index_add(0, query_n, chosen_nd)
    # On a GPU, compacting the rows would synchronize to get their number.
    weights_QK = chosen_QK.to(table_Xd.dtype)
    return F.embedding_bag(index_QK, table_Xd, mode="sum", per_sample_weights=weights_QK)


def spread(pairs: Sequence[tuple[Tensor, Tensor]], rows: Rows) -> Tensor:
    """Scatter to [X, d] rows, the transpose of `sums`; not differentiable.

    On the CPU this runs on a few queries at a time: a whole [Q, K, d] tensor would not fit
    into the cache.

    Args:
        pairs: weights [H, Q, K] and vectors [H, Q, d]; each row gets the sum of their products.
        rows: rows that each query reads.
    """
    table_Xd = torch.zeros_like(rows.table_Xd)
    num_queries = rows.index_QK.shape[0]
    in_cache = table_Xd.device.type == "cpu" and not shapes_are_fixed()
    at_a_time = _QUERIES_AT_A_TIME if in_cache else max(num_queries, 1)
    for first in range(0, num_queries, at_a_time):
        some = slice(first, first + at_a_time)
        given_QKd = _product(pairs, some)
        table_Xd.index_add_(0, rows.index_QK[some].flatten(), given_QKd.flatten(0, 1))
    return table_Xd


def _product(pairs: Sequence[tuple[Tensor, Tensor]], some: slice) -> Tensor:
    """Return [Q, K, d] products of some queries, summed over heads and pairs."""
    (weights, vectors), *others = (
        (weights[:, some].permute(1, 2, 0), vectors[:, some].transpose(0, 1))
        for weights, vectors in pairs
    )
    product = torch.bmm(weights, vectors)
    for weights, vectors in others:
        product.baddbmm_(weights, vectors)
    return product


def _in_place(left: Tensor, rows: Rows) -> bool:
    """Return True if there is a kernel that reads rows by index, faster than copying them."""
    # Neither torch.export nor make_fx supports sparse tensors.
    if shapes_are_fixed() or torch.compiler.is_exporting():
        return False
    wide = left.dtype in (torch.float32, torch.float64)
    # A sparse row cannot have more entries than columns, even if entries repeat.
    fits = 0 < rows.index_QK.shape[1] <= rows.table_Xd.shape[0]
    return left.device.type == "cpu" and wide and fits and rows.index_QK.shape[0] > 0


def _for_heads(rows: Rows, num_heads: int) -> Tensor:
    """Repeat the row indices for each head: [H * Q, K]."""
    return rows.index_QK.expand(num_heads, *rows.index_QK.shape).reshape(-1, rows.index_QK.shape[1])


@cache
def _warn_once_in_vain() -> None:
    """Trigger and swallow torch's one-off "sparse CSR is in beta" warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends, nothing = torch.tensor([0, 1]), torch.zeros(1)
        torch.sparse_csr_tensor(ends, torch.tensor([0]), nothing, size=(1, 1))
