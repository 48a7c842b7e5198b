"""Products with the rows of a table against the same with a copy of the rows."""

from __future__ import annotations

import itertools
import warnings

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pres_dist.model import rows as rows_module
from pres_dist.model.rows import Rows, dots, spread, sums, sums_of_few
from tests.support.nightly import drawn


@settings(max_examples=drawn(200, 3))
@given(
    num_queries=st.integers(0, 6),
    num_heads=st.integers(1, 3),
    each=st.integers(0, 5),
    dim=st.integers(1, 20),
    num_rows=st.integers(1, 7),
    wide=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_are_those_with_a_copy_of_the_rows(
    num_queries: int, num_heads: int, each: int, dim: int, num_rows: int, wide: bool, seed: int
) -> None:
    """Rows may be read by several queries, and several times by one."""
    random = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if wide else torch.float32
    table = torch.randn(num_rows, dim, dtype=dtype, generator=random)
    index = torch.randint(0, num_rows, (num_queries, each), generator=random)
    queries = torch.randn(num_heads, num_queries, dim, dtype=dtype, generator=random)
    weights = torch.randn(num_heads, num_queries, each, dtype=dtype, generator=random)
    rows, copied = Rows(table, index), table[index]
    torch.testing.assert_close(dots(queries, rows), torch.einsum("hqd,qkd->hqk", queries, copied))
    torch.testing.assert_close(sums(weights, rows), torch.einsum("hqk,qkd->hqd", weights, copied))
    given = torch.zeros_like(table)
    for query, slot in itertools.product(range(num_queries), range(each)):
        given[index[query, slot]] += weights[:, query, slot] @ queries[:, query]
    half = 0.5 * weights
    spread_out = spread([(half, queries), (half, queries)], rows)
    torch.testing.assert_close(spread_out, given)
    assert torch.equal(rows.dense_QKd, copied)
    assert torch.equal(Rows.of(copied).dense_QKd, copied)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_has_a_way_too(dtype: torch.dtype) -> None:
    rows = Rows(torch.randn(4, 8, dtype=dtype), torch.tensor([[0, 3], [1, 1]]))
    queries, weights = torch.randn(3, 2, 8, dtype=dtype), torch.randn(3, 2, 2, dtype=dtype)
    assert dots(queries, rows).dtype == sums(weights, rows).dtype == dtype


def test_it_goes_without_saying() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dots(torch.randn(2, 2, 8), Rows(torch.randn(4, 8), torch.tensor([[0, 3], [1, 1]])))


def test_many_queries_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(torch.randn(5, 3), torch.randint(0, 5, (7, 2)))
    pair = torch.randn(2, 7, 2), torch.randn(2, 7, 3)
    whole = spread([pair], rows)
    monkeypatch.setattr(rows_module, "_QUERIES_AT_A_TIME", 3)
    torch.testing.assert_close(spread([pair], rows), whole)


@pytest.mark.parametrize("num_queries", [0, 1, 9])
def test_few_rows_are_added_up_in_both_ways(
    num_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, index = torch.randn(6, 3), torch.randint(0, 6, (num_queries, 4))
    chosen = torch.rand(num_queries, 4) < 0.3
    expected = (table[index] * chosen[:, :, None]).sum(1)
    upstream, gradients = torch.randn_like(expected), []
    for in_place in (True, False):
        monkeypatch.setattr(rows_module, "_in_place", lambda *_, way=in_place: way)
        own = table.clone().requires_grad_()
        summed = sums_of_few(chosen, Rows(own, index))
        torch.testing.assert_close(summed, expected)
        summed.backward(upstream)
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients)
