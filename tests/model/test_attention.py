"""Attention without projected neighbors against attention that projects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.model.attention import TemporalAttention, attend
from pres_dist.model.rows import Rows

Q, K, S, T, A = 11, 5, 6, 4, 8
EMPTY, FULL = 3, 4
"""Queries of which the first has no neighbor and the second no empty slot."""


@dataclass
class Inputs:
    own: Tensor
    now: Tensor
    states: Tensor
    edges: Tensor | None
    times: Tensor
    mask: Tensor

    def differentiable(self) -> list[Tensor]:
        return [self.own, self.now, self.states, self.times]

    @property
    def queries(self) -> Tensor:
        return torch.cat([self.own, self.now.expand(len(self.own), -1)], dim=1)

    def arguments(self) -> tuple[Tensor, Tensor, Rows, Rows | None, Tensor, Tensor]:
        edges = None if self.edges is None else Rows.of(self.edges)
        return self.own, self.now, Rows.of(self.states), edges, Rows.of(self.times), self.mask


def make_inputs(edge_dim: int, dtype: torch.dtype = torch.float64, num_neighbors: int = K):
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    mask = torch.rand(Q, num_neighbors) < 0.6
    mask[EMPTY], mask[FULL] = False, True
    return Inputs(
        draw(Q, S).requires_grad_(),
        draw(1, T).requires_grad_(),
        draw(Q, num_neighbors, S).requires_grad_(),
        draw(Q, num_neighbors, edge_dim) if edge_dim else None,
        draw(Q, num_neighbors, T).requires_grad_(),
        mask,
    )


def make_attention(edge_dim: int, num_heads: int, dtype: torch.dtype = torch.float64):
    torch.manual_seed(edge_dim + 10 * num_heads)
    return TemporalAttention(S, edge_dim, T, A, num_heads).to(dtype)


def project_and_attend(module: TemporalAttention, inputs: Inputs) -> Tensor:
    """[Q, A] the textbook form, one query at a time over its real neighbors only."""
    parts = [inputs.states, inputs.times]
    if inputs.edges is not None:
        parts.insert(1, inputs.edges)
    x_QKx = torch.cat(parts, dim=2)
    rows = []
    for query, x_Kx, mask_K in zip(inputs.queries, x_QKx, inputs.mask, strict=True):
        q_HA = module.query(query).view(module.num_heads, 1, -1)
        real = x_Kx[mask_K]
        if not len(real):
            rows.append(torch.zeros_like(q_HA).flatten())
            continue
        heads = (len(real), module.num_heads, -1)
        keys = (real @ module.key.T).view(heads).transpose(0, 1)
        values = (real @ module.value.T).view(heads).transpose(0, 1)
        rows.append(F.scaled_dot_product_attention(q_HA, keys, values).flatten())
    return torch.stack(rows)


def gradients(result: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    upstream = torch.randn(
        result.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    return list(torch.autograd.grad(result, leaves, upstream.to(result.dtype)))


def assert_all_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for left, right in zip(actual, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=20 * tolerance, atol=20 * tolerance)


def compare_with_projection(
    dtype: torch.dtype, tolerance: float, edge_dim: int, num_heads: int, num_neighbors: int = K
) -> None:
    module = make_attention(edge_dim, num_heads, dtype)
    inputs = make_inputs(edge_dim, dtype, num_neighbors)
    leaves = [*inputs.differentiable(), *module.parameters()]
    actual, expected = module(*inputs.arguments()), project_and_attend(module, inputs)
    assert actual.dtype == dtype
    assert_all_close([actual], [expected], tolerance)
    assert_all_close(gradients(actual, leaves), gradients(expected, leaves), tolerance)


@pytest.mark.parametrize(("edge_dim", "num_heads"), [(3, 2), (0, 2), (3, 1), (0, 4)])
def test_equals_projected_attention(edge_dim, num_heads):
    compare_with_projection(torch.float32, 2e-6, edge_dim, num_heads)


def test_one_neighbor_slot():
    compare_with_projection(torch.float32, 2e-6, edge_dim=3, num_heads=2, num_neighbors=1)


@pytest.mark.parametrize("edge_dim", [3, 0])
def test_equals_projected_attention_in_float64(edge_dim):
    compare_with_projection(torch.float64, 1e-12, edge_dim, num_heads=2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("edge_dim", [2, 0])
@pytest.mark.parametrize("learned_times", [True, False])
def test_written_out_gradient(seed, edge_dim, learned_times):
    torch.manual_seed(seed)
    dims = [3, edge_dim, 2]
    queries = [torch.randn(2, 4, d, dtype=torch.float64, requires_grad=True) for d in dims]
    states = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    edges = torch.randn(4, 3, edge_dim, dtype=torch.float64)
    times = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=learned_times)
    mask = torch.rand(4, 3) < 0.6
    mask[0] = False

    def attended(states: Tensor, times: Tensor, *queries: Tensor) -> Sequence[Tensor]:
        return attend(queries, [Rows.of(part) for part in (states, edges, times)], mask)

    assert torch.autograd.gradcheck(attended, (states, times, *queries))


def test_edge_features_and_fixed_times_get_no_gradient():
    module, inputs = make_attention(3, 2), make_inputs(3)
    assert inputs.edges is not None
    inputs.edges.requires_grad_()
    inputs.times = inputs.times.detach()
    module(*inputs.arguments()).sum().backward()
    assert inputs.edges.grad is None
    assert inputs.times.grad is None
    assert inputs.states.grad is not None


@pytest.mark.parametrize("edge_dim", [3, 0])
def test_without_neighbors_exactly_zero(edge_dim):
    module = make_attention(edge_dim, 2, torch.float32)
    inputs = make_inputs(edge_dim, torch.float32)
    result = module(*inputs.arguments())
    assert torch.equal(result[EMPTY], torch.zeros(A))
    assert result[FULL].abs().min() > 0
    leaves = [*inputs.differentiable(), *module.parameters()]
    grads = gradients(result, leaves)
    assert all(grad.isfinite().all() for grad in grads)
    for grad in (grads[0], *grads[2:4]):  # all but that of the shared time part
        assert torch.equal(grad[EMPTY], torch.zeros_like(grad[EMPTY]))


def test_no_query_has_a_neighbor():
    module, inputs = make_attention(3, 2), make_inputs(3)
    inputs.mask[:] = False
    result = module(*inputs.arguments())
    assert torch.equal(result, torch.zeros(Q, A, dtype=torch.float64))
    for grad in gradients(result, [*inputs.differentiable(), *module.parameters()]):
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("garbage", [0.0, 1e10, -1e10])
@pytest.mark.parametrize("edge_dim", [3, 0])
def test_masked_slots_have_no_influence(edge_dim, garbage):
    module = make_attention(edge_dim, 2, torch.float32)
    inputs = make_inputs(edge_dim, torch.float32)
    empty = ~inputs.mask

    def poisoned(part: Tensor) -> Tensor:
        result = part.detach().clone()
        result[empty] = garbage
        return result.requires_grad_(part.requires_grad)

    other = Inputs(
        inputs.own,
        inputs.now,
        poisoned(inputs.states),
        None if inputs.edges is None else poisoned(inputs.edges),
        poisoned(inputs.times),
        inputs.mask,
    )
    results = [module(*case.arguments()) for case in (inputs, other)]
    assert torch.equal(*results)
    first, second = (
        gradients(result, [*case.differentiable(), *module.parameters()])
        for result, case in zip(results, (inputs, other), strict=True)
    )
    assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))
    for grad in second[2:4]:
        assert torch.equal(grad[empty], torch.zeros_like(grad[empty]))


def test_large_scores_do_not_overflow():
    module, inputs = make_attention(3, 2, torch.float32), make_inputs(3, torch.float32)
    with torch.no_grad():
        inputs.own *= 1e6
    result = module(*inputs.arguments())
    assert result.isfinite().all()
    for grad in gradients(result, [*inputs.differentiable(), *module.parameters()]):
        assert grad.isfinite().all()


@pytest.mark.parametrize("edge_dim", [3, 0])
def test_autocast_is_close_to_float32(edge_dim):
    module = make_attention(edge_dim, 2, torch.float32)
    inputs = make_inputs(edge_dim, torch.float32)
    leaves = [*inputs.differentiable(), *module.parameters()]
    expected = module(*inputs.arguments())
    with torch.autocast("cpu", torch.bfloat16):
        actual = module(*inputs.arguments())
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual[EMPTY], torch.zeros(A, dtype=torch.bfloat16))
    torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.05)
    wanted, got = gradients(expected, leaves), gradients(actual, leaves)
    for left, right in zip(got, wanted, strict=True):
        assert left.dtype == torch.float32
        assert (left - right).norm() < 0.03 * right.norm()
