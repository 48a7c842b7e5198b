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
        self.part_dims = [state_dim, edge_dim, time_dim]
        self.query = nn.Linear(state_dim + time_dim, out_dim)
        self.key = nn.Parameter(torch.empty(out_dim, sum(self.part_dims)))
        self.value = nn.Parameter(torch.empty(out_dim, sum(self.part_dims)))
        nn.init.xavier_uniform_(self.key)
        nn.init.xavier_uniform_(self.value)

    def forward(
        self,
        own_PS: Tensor,
        now_1T: Tensor,
        states_QKS: Tensor,
        edges_QKd: Tensor | None,
        times_QKT: Tensor,
        mask_QK: Tensor,
        place_Q: Tensor | None = None,
    ) -> Tensor:
        """[Q, A] attended values; zero for a query without neighbours.

        Args:
            own_PS: state of the querying nodes.
            now_1T: phi(0), the time part that all queries share.
            states_QKS: state of each neighbour.
            edges_QKd: features of the event that made it a neighbour, or None.
            times_QKT: phi(time of query - time of event).
            mask_QK: False for empty slots.
            place_Q: row of `own_PS` that belongs to each query; None where they are in order.
        """
        queries_QHx = self._into_neighbour_space(own_PS, now_1T)
        if place_Q is not None:
            queries_QHx = queries_QHx.index_select(0, place_Q)
        edges = states_QKS[:, :, :0] if edges_QKd is None else edges_QKd
        return self._values(attend(queries_QHx, states_QKS, edges, times_QKT, mask_QK))

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


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis among unmasked places; all zero where none is unmasked."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim=-1) * mask


def attend(
    queries_QHx: Tensor, states_QKS: Tensor, edges_QKd: Tensor, times_QKT: Tensor, mask_QK: Tensor
) -> Tensor:
    """[Q, H, d_x] sums of neighbours x_k = [state | edge | time], weighted by softmax(q' . x_k).

    The three parts are never put together into one tensor. Under autocast all are
    taken to its type first, so that forward and backward agree.
    """
    device = queries_QHx.device.type
    dtype = queries_QHx.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    parts = (part.to(dtype) for part in (queries_QHx, states_QKS, edges_QKd, times_QKT))
    with torch.autocast(device, enabled=False):
        result = _Attend.apply(*parts, mask_QK)
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
        ctx: Any, queries: Tensor, states: Tensor, edges: Tensor, times: Tensor, mask: Tensor
    ) -> Tensor:
        parts = (states, edges, times)
        split = queries.split([part.shape[2] for part in parts], dim=2)
        scores = sum_of_products(split, [part.transpose(1, 2) for part in parts])
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = masked_softmax(scores.to(wide), mask[:, None, :]).to(queries.dtype)
        ctx.save_for_backward(queries, weights, *parts)
        return torch.cat([torch.bmm(weights, part) for part in parts], dim=2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        queries, weights, *parts = ctx.saved_tensors
        dims = [part.shape[2] for part in parts]
        grad_parts = grads[0].split(dims, dim=2)
        grad_weights = sum_of_products(grad_parts, [part.transpose(1, 2) for part in parts])
        weighted = grad_weights * weights
        grad_scores = weighted - weights * weighted.sum(dim=2, keepdim=True)
        grad_queries = torch.cat([torch.bmm(grad_scores, part) for part in parts], dim=2)
        coefficients = torch.cat([grad_scores, weights], dim=1).transpose(1, 2)
        grad_states, _, grad_times = (
            torch.bmm(coefficients, torch.cat([query, grad], dim=1)) if needed else None
            for query, grad, needed in zip(
                queries.split(dims, dim=2), grad_parts, ctx.needs_input_grad[1:4], strict=True
            )
        )
        return grad_queries, grad_states, None, grad_times, None


def sum_of_products(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Sum of batched products; empty parts (a stream without edge features) are left out."""
    products = [torch.bmm(a, b) for a, b in zip(left, right, strict=True) if a.shape[2]]
    return sum(products[1:], products[0])
