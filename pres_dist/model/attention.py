"""Temporal attention of one query over its neighbors, without projecting the neighbors.

Projecting all K neighbors of a query to keys and values costs K * d_x * A twice.
Scores and sums are linear in the neighbors, so the projections can move to the
other side: with x_k = [state | edge | time] of neighbor k and per head
q' = Wk^T q, the scores are q' . x_k and the result is Wv (sum_k a_k x_k). This equals,
up to rounding, multi-head attention with keys Wk x and values Wv x (key biases
cancel in the softmax, and the next layer's bias covers the value bias).

Queries of one node at several times differ only in their neighbors, so q' is
computed once for each of the P distinct nodes.

Shapes: Q queries of P nodes, K neighbors, H heads, A embedding size, S state size, d_e
edge features, T time encoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.model.rows import Rows, dots, spread, sums


class TemporalAttention(nn.Module):
    """Multi-head attention of TGN's embedding module (Rossi et al., 2020, section 3.3).

    Args:
        state_dim: S, for both queries and neighbors.
        edge_dim: d_e, 0 for none.
        time_dim: T.
        out_dim: A, a multiple of num_heads.
        num_heads: H.
    """

    def __init__(
        self, state_dim: int, edge_dim: int, time_dim: int, out_dim: int, num_heads: int
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        key_dim = state_dim + edge_dim + time_dim
        self.query = nn.Linear(state_dim + time_dim, out_dim)
        self.key = nn.Parameter(torch.empty(out_dim, key_dim))
        self.value = nn.Parameter(torch.empty(out_dim, key_dim))
        nn.init.xavier_uniform_(self.key)
        nn.init.xavier_uniform_(self.value)

    def forward(
        self,
        own_PS: Tensor,
        now_1T: Tensor,
        states: Rows,
        edges: Rows | None,
        times: Rows,
        mask_QK: Tensor,
        place_Q: Tensor | None = None,
    ) -> Tensor:
        """Return [Q, A] attended values; zero for a query without neighbors.

        Args:
            own_PS: state of the querying nodes.
            now_1T: phi(0), the time encoding shared by all queries.
            states: [S] state of each neighbor.
            edges: [d_e] features of the event with each neighbor, or None.
            times: [T] phi(time of query - time of event).
            mask_QK: False for empty slots.
            place_Q: row of `own_PS` for each query; None if rows and queries correspond in order.
        """
        read = [states, times]
        if edges is not None:
            read.insert(1, replace(edges, table_Xd=edges.table_Xd.detach()))
        queries = self._into_neighbor_space(own_PS, now_1T, [rows.dim for rows in read])
        return self._values(
            attend([at_queries(part, place_Q, dim=1) for part in queries], read, mask_QK)
        )

    def _into_neighbor_space(self, own_PS: Tensor, now_1T: Tensor, dims: list[int]) -> list[Tensor]:
        """Return the scaled q' = Wk^T q of each head, as [H, P, d] for each part of a neighbor.

        q = Wq [own state | phi(0)].
        """
        state_AS, time_AT = self.query.weight.split([own_PS.shape[1], now_1T.shape[1]], dim=1)
        shared_A = F.linear(now_1T, time_AT, self.query.bias)[0]
        projected_PA = F.linear(own_PS, state_AS, shared_A)
        head_dim = projected_PA.shape[1] // self.num_heads
        projected_HPh = projected_PA.unflatten(1, (self.num_heads, head_dim)).transpose(0, 1)
        key_Hhx = self.key.view(self.num_heads, head_dim, -1) / math.sqrt(head_dim)
        return [torch.bmm(projected_HPh, key_Hhd) for key_Hhd in key_Hhx.split(dims, dim=2)]

    def _values(self, parts: Sequence[Tensor]) -> Tensor:
        """Apply Wv to each head's sum, given as [H, Q, d] parts; return [Q, A]."""
        value_Hxh = self.value.view(self.num_heads, -1, self.value.shape[1]).transpose(1, 2)
        values = value_Hxh.split([part.shape[2] for part in parts], dim=1)
        values_HQh = torch.bmm(parts[0], values[0])
        for part, value in zip(parts[1:], values[1:], strict=True):
            values_HQh = torch.baddbmm(values_HQh, part, value)
        return values_HQh.transpose(0, 1).flatten(1)


def at_queries(rows: Tensor, place_Q: Tensor | None, dim: int = 0) -> Tensor:
    """Return each query's row from rows of distinct nodes; None means already in order."""
    return rows if place_Q is None else rows.index_select(dim, place_Q)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over unmasked places of the last axis; zeros if all are masked."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim=-1) * mask


def attend(queries: Sequence[Tensor], read: Sequence[Rows], mask_QK: Tensor) -> Sequence[Tensor]:
    """Sum the neighbors x_k, weighted by softmax(q' . x_k).

    The parts of a neighbor, x_k = [state | edge | time], are never concatenated. Under
    autocast all inputs are cast to its type first, so that forward and backward agree.

    Args:
        queries: [H, Q, d] of each part.
        read: the parts of the K neighbors of each query.
        mask_QK: False for empty slots.

    Returns:
        [H, Q, d] of each part.
    """
    device, dtype = queries[0].device.type, queries[0].dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    wide = [*queries, *(rows.table_Xd for rows in read)]
    with torch.autocast(device, enabled=False):
        attended: Sequence[Tensor] = _Attend.apply(  # type: ignore[no-untyped-call]
            mask_QK,
            [rows.in_order for rows in read],
            *(each.to(dtype) for each in wide),
            *(rows.index_QK for rows in read),
        )
    return attended


class _Attend(torch.autograd.Function):
    """`attend` with a hand-derived gradient.

    A neighbor's gradient has a term through its score and one through the sum; both are
    computed in one tensor. Autograd would compute two [Q, K, S] tensors, one of them
    transposed, and add them.
    """

    @staticmethod
    def forward(
        ctx: Any, mask: Tensor, in_order: Sequence[bool], *given: Tensor
    ) -> tuple[Tensor, ...]:
        num = len(in_order)
        queries, tables, indices = given[:num], given[num : 2 * num], given[2 * num :]
        read = [Rows(*each) for each in zip(tables, indices, in_order, strict=True)]
        scores = _scores(queries, read)
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = masked_softmax(scores.to(wide), mask).to(scores.dtype)
        ctx.save_for_backward(weights, *queries)
        ctx.read = read  # with the copies that a GPU reads from
        return tuple(sums(weights, rows) for rows in read)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weights, *queries), read = ctx.saved_tensors, ctx.read
        weighted = _scores(grads, read) * weights
        grad_scores = weighted - weights * weighted.sum(dim=2, keepdim=True)
        needed = ctx.needs_input_grad[2 + len(read) :]
        grad_tables = [
            spread([(grad_scores, query), (weights, grad)], rows) if needs else None
            for query, grad, rows, needs in zip(queries, grads, read, needed, strict=False)
        ]
        grad_queries = (sums(grad_scores, rows) for rows in read)
        return None, None, *grad_queries, *grad_tables, *(None for _ in read)


def _scores(queries: Sequence[Tensor], read: Sequence[Rows]) -> Tensor:
    """Return the [H, Q, K] scores q' . x_k."""
    scores: Tensor | None = None
    for query, rows in zip(queries, read, strict=True):
        scores = dots(query, rows, scores)
    assert scores is not None
    return scores
