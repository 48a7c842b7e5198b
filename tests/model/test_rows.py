"""Products with the rows of a table against the same with a copy of the rows."""

from __future__ import annotations

import warnings

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pres_dist.model.rows import Rows, dots, sums


@settings(max_examples=200)
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
    queries = torch.randn(num_queries, num_heads, dim, dtype=dtype, generator=random)
    weights = torch.randn(num_queries, num_heads, each, dtype=dtype, generator=random)
    rows, copied = Rows(table, index), table[index]
    torch.testing.assert_close(dots(queries, rows), torch.einsum("qhd,qkd->qhk", queries, copied))
    torch.testing.assert_close(sums(weights, rows), torch.einsum("qhk,qkd->qhd", weights, copied))
    assert torch.equal(rows.dense(), copied)
    assert torch.equal(Rows.of(copied).dense(), copied)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_has_a_way_too(dtype: torch.dtype) -> None:
    rows = Rows(torch.randn(4, 8, dtype=dtype), torch.tensor([[0, 3], [1, 1]]))
    queries, weights = torch.randn(2, 2, 8, dtype=dtype), torch.randn(2, 2, 2, dtype=dtype)
    assert dots(queries, rows).dtype == sums(weights, rows).dtype == dtype


def test_it_goes_without_saying() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dots(torch.randn(2, 2, 8), Rows(torch.randn(4, 8), torch.tensor([[0, 3], [1, 1]])))
