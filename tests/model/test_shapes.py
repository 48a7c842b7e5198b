"""Distinct values in a result of fixed size."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pres_dist.model.shapes import Room, distinct_within


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 40))
def test_distinct_values_of_fixed_size(values: list[int], size: int) -> None:
    values_X = torch.tensor(values)
    distinct_U, place_X, num = distinct_within(values_X, Room(size, padding=99))
    expected, places = torch.unique(values_X, return_inverse=True)
    assert distinct_U.numel() == size
    assert num == expected.numel()
    fits = min(expected.numel(), size)
    assert torch.equal(distinct_U[:fits], expected[:fits])
    assert (distinct_U[fits:] == 99).all()
    if expected.numel() <= size:
        assert torch.equal(place_X, places)
    assert place_X.max() < size
