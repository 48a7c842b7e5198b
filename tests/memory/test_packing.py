"""Rows of bytes, and the columns in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pres_dist.memory.packing import Buffer, RowLayout
from pres_dist.memory.state import NEVER
from tests.support.store_rows import Layout, random_state

CPU = torch.device("cpu")


def columns_of(num: int) -> list[Tensor]:
    """Wide and narrow types in turn, so that plain concatenation would not be aligned."""
    state = random_state(Layout(num_slots=3), num, 1, [NEVER + 1] * num)
    return [
        torch.arange(num) % 2 == 0,
        torch.full((num,), (1 << 62) + 1),
        *vars(state).values(),
        torch.full((num, 2), 0.5, dtype=torch.bfloat16),
    ]


def assert_same_columns(some: list[Tensor], others: list[Tensor]) -> None:
    for column, same in zip(some, others, strict=True):
        assert column.dtype == same.dtype
        assert torch.equal(column, same)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_packed_rows_come_out_to_the_last_bit(num: int) -> None:
    columns = columns_of(num)
    layout = RowLayout(columns)
    packed = torch.empty(num, layout.num_bytes, dtype=torch.uint8)
    layout.pack(columns, None, packed)
    in_row = 1 + 8 + (3 * 4 + 8 + 3 * 3 * 4 + 3 * 8 + 8) + 2 * 2
    assert packed.shape == (num, in_row + -in_row % 8)
    unpacked = layout.unpack(packed, torch.arange(num))
    assert_same_columns(columns, unpacked)
    packed.zero_()
    assert_same_columns(columns, unpacked)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_rows_are_packed_in_the_order_given_and_taken_back_out_of_it(num: int) -> None:
    columns, order = columns_of(num), torch.arange(num).flip(0)
    layout, buffer = RowLayout(columns), Buffer()
    rows = buffer.rows(num, layout.num_bytes, CPU)
    layout.pack(columns, order, rows)
    assert_same_columns([column[order] for column in columns], layout.columns(rows))
    assert_same_columns(columns, layout.unpack(rows, torch.argsort(order)))


def test_a_part_of_the_rows_is_packed() -> None:
    columns, some = columns_of(5), torch.tensor([4, 1])
    layout = RowLayout(columns)
    rows = Buffer().rows(2, layout.num_bytes, CPU)
    layout.pack(columns, some, rows)
    assert_same_columns([column[some] for column in columns], layout.columns(rows))


def test_a_buffer_is_used_again_and_grows() -> None:
    buffer = Buffer()
    first = buffer.rows(10, 16, CPU)
    assert first.shape == (10, 16)
    assert buffer.rows(3, 8, CPU).data_ptr() == first.data_ptr()
    assert buffer.rows(100, 16, CPU).shape == (100, 16)
    assert buffer.rows(0, 16, CPU).shape == (0, 16)
