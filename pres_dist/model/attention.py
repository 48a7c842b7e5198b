"""Temporal attention of one query over its neighbours, without projecting the neighbours.

Projecting all K neighbours of a query to keys and values costs K * d_x * A twice.
Scores and sums are linear in the neighbours, so the projections can move to the
other side: with x_k = [state | edge | time] of neighbour k and per head
q' = Wk^T q, the scores are q' . x_k and the result is Wv (sum_k a_k x_k). Equal up
to rounding to multi-head attention with keys Wk x and values Wv x (key biases
cancel in the softmax, and the value bias is the next layer's).

Queries of one node at several times differ in their neighbours only, so that q' is
computed once for each of the P distinct nodes.

Shapes: Q queries of P nodes, K neighbours, H heads, A embedding size, S state size, d_e
edge features, T time encoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pres_dist.model.rows import Rows, dots, sums


class TemporalAttention(nn.Module):
    """Multi-head attention of TGN's embedding module (Rossi et al., 2020, section 3.3).

    Args:
        state_dim: S, of queries and neighbours alike.
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
        times_QKT: Tensor,
        mask_QK: Tensor,
        place_Q: Tensor | None = None,
    ) -> Tensor:
        """[Q, A] attended values; zero for a query without neighbours.

        Args:
            own_PS: state of the querying nodes.
            now_1T: phi(0), the time part that all queries share.
            states: [S] state of each neighbour.
            edges: [d_e] features of the event that made it a neighbour, or None.
            times_QKT: phi(time of query - time of event).
            mask_QK: False for empty slots.
            place_Q: row of `own_PS` that belongs to each query; None where they are in order.
        """
        queries_QHx = at_queries(self._into_neighbour_space(own_PS, now_1T), place_Q)
        return self._values(attend(queries_QHx, states, edges, times_QKT, mask_QK))

    def _into_neighbour_space(self, own_PS: Tensor, now_1T: Tensor) -> Tensor:
        """q' = Wk^T q for each head, scaled: [P, H, d_x]; q = Wq [own state | phi(0)]."""
        state_AS, time_AT = self.query.weight.split([own_PS.shape[1], now_1T.shape[1]], dim=1)
        shared_A = F.linear(now_1T, time_AT, self.query.bias)[0]
        projected_PA = F.linear(own_PS, state_AS, shared_A)
        head_dim = projected_PA.shape[1] // self.num_heads
        projected_HPh = projected_PA.unflatten(1, (self.num_heads, head_dim)).transpose(0, 1)
        key_Hhx = self.key.view(self.num_heads, head_dim, -1) / math.sqrt(head_dim)
        return torch.bmm(projected_HPh, key_Hhx).transpose(0, 1)

    def _values(self, sums_QHx: Tensor) -> Tensor:
        """Wv applied to each head's sum: [Q, A]."""
        value_Hxh = self.value.view(self.num_heads, -1, self.value.shape[1]).transpose(1, 2)
        values_HQh = torch.bmm(sums_QHx.transpose(0, 1), value_Hxh)
        return values_HQh.transpose(0, 1).flatten(1)


def at_queries(rows: Tensor, place_Q: Tensor | None) -> Tensor:
    """The row of each query, out of those of distinct nodes; None: they are in order already."""
    return rows if place_Q is None else rows.index_select(0, place_Q)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis among unmasked places; all zero where none is unmasked."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim=-1) * mask


def attend(
    queries_QHx: Tensor, states: Rows, edges: Rows | None, times_QKT: Tensor, mask_QK: Tensor
) -> Tensor:
    """[Q, H, d_x] sums of neighbours x_k = [state | edge | time], weighted by softmax(q' . x_k).

    The three parts are never put together into one tensor. Under autocast all are
    taken to its type first, so that forward and backward agree.
    """
    device = queries_QHx.device.type
    dtype = queries_QHx.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    if edges is None:
        edges = Rows(states.table_Xd[:, :0], states.index_QK)
    read = [part for rows in (states, edges) for part in (rows.table_Xd.to(dtype), rows.index_QK)]
    with torch.autocast(device, enabled=False):
        result = _Attend.apply(queries_QHx.to(dtype), *read, times_QKT.to(dtype), mask_QK)
    assert isinstance(result, Tensor)
    return result


class _Attend(torch.autograd.Function):
    """`attend` with its gradient written out.

    A neighbour's gradient comes through its score and through the sum. Autograd
    would form two [Q, K, S] tensors, one of them transposed, and add them up; here
    one product of [K, 2H] by [2H, S] a query gives their sum. Edge features get no
    gradient, times only when their encoding is learnt.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        states: Tensor,
        states_index: Tensor,
        edges: Tensor,
        edges_index: Tensor,
        times: Tensor,
        mask: Tensor,
    ) -> Tensor:
        read = (Rows(states, states_index), Rows(edges, edges_index))
        scores = _scores(_parts(queries, states, edges), read, times)
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = masked_softmax(scores.to(wide), mask[:, None, :]).to(queries.dtype)
        ctx.save_for_backward(queries, weights, states, states_index, edges, edges_index, times)
        return _sums(weights, read, times)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        queries, weights, states, states_index, edges, edges_index, times = ctx.saved_tensors
        read = (Rows(states, states_index), Rows(edges, edges_index))
        grad_parts = _parts(grads[0], states, edges)
        grad_weights = _scores(grad_parts, read, times)
        weighted = grad_weights * weights
        grad_scores = weighted - weights * weighted.sum(dim=2, keepdim=True)
        grad_queries = _sums(grad_scores, read, times)
        coefficients = torch.cat([grad_scores, weights], dim=1).transpose(1, 2)
        grad_read, _, grad_times = (
            torch.bmm(coefficients, torch.cat([query, grad], dim=1)) if needed else None
            for query, grad, needed in zip(
                _parts(queries, states, edges),
                grad_parts,
                (ctx.needs_input_grad[1], False, ctx.needs_input_grad[5]),
                strict=True,
            )
        )
        grad_states = None
        if grad_read is not None:
            flat, index = grad_read.flatten(0, 1), states_index.flatten()
            grad_states = torch.zeros_like(states).index_add_(0, index, flat)
        return grad_queries, grad_states, None, None, None, grad_times, None


def _parts(queries: Tensor, states: Tensor, edges: Tensor) -> Sequence[Tensor]:
    """What of [Q, H, d_x] belongs to states, edge features and times."""
    state_dim, edge_dim = states.shape[1], edges.shape[1]
    return queries.split([state_dim, edge_dim, queries.shape[2] - state_dim - edge_dim], dim=2)


def _scores(parts: Sequence[Tensor], read: Sequence[Rows], times: Tensor) -> Tensor:
    """[Q, H, K] q' . x_k."""
    scores = torch.bmm(parts[2], times.transpose(1, 2))
    for part, rows in zip(parts, read, strict=False):
        if part.shape[2]:  # a stream may have no edge features
            scores = scores + dots(part, rows)
    return scores


def _sums(weights: Tensor, read: Sequence[Rows], times: Tensor) -> Tensor:
    """[Q, H, d_x] sum_k a_k x_k."""
    found = [sums(weights, rows) for rows in read if rows.table_Xd.shape[1]]
    return torch.cat([*found, torch.bmm(weights, times)], dim=2)
