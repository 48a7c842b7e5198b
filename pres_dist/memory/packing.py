"""Columns of any types side by side as the bytes of one row, and back.

Shapes: U rows, Y bytes of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_ALIGNMENT = 8


class RowLayout:
    """Where columns lie in the bytes of a row: wide types first, so that all are aligned.

    Args:
        like: columns [..., ...] with the types and row shapes that rows are made of.

    Attributes:
        num_bytes: of a row, a multiple of 8.
    """

    def __init__(self, like: Sequence[Tensor]) -> None:
        self._types = [column.dtype for column in like]
        self._shapes = [column.shape[1:] for column in like]
        sizes = [math.prod(column.shape[1:]) * column.element_size() for column in like]
        self._spans, end = [slice(0)] * len(like), 0
        for number in sorted(range(len(like)), key=lambda each: -like[each].element_size()):
            self._spans[number] = slice(end, end + sizes[number])
            end += sizes[number]
        self.num_bytes = -(-end // _ALIGNMENT) * _ALIGNMENT

    def columns(self, rows_UY: Tensor) -> list[Tensor]:
        """The columns [U, ...] of packed rows, as views of them."""
        flat = self._flat_columns(rows_UY)
        return [
            part.view(len(part), *shape) for part, shape in zip(flat, self._shapes, strict=True)
        ]

    def pack(self, columns: Sequence[Tensor], order_U: Tensor | None, into_UY: Tensor) -> None:
        """Write columns into rows, each copied once.

        Args:
            columns: [V, ...].
            order_U: which of their rows to write, in this order; None for all as they are.
            into_UY: the bytes of the rows.
        """
        for part, column in zip(self._flat_columns(into_UY), columns, strict=True):
            flat = column.detach().reshape(len(column), -1 if len(column) else part.shape[1])
            if order_U is None:
                part.copy_(flat)
            else:
                torch.index_select(flat, 0, order_U, out=part)

    def unpack(self, rows_UY: Tensor, order_V: Tensor) -> list[Tensor]:
        """Copies of the columns, with rows in the order given [V, ...]."""
        # One copy a column: `index_select` turns strided rows into dense ones as it goes.
        flat = [part.index_select(0, order_V) for part in self._flat_columns(rows_UY)]
        return [
            part.view(len(part), *shape) for part, shape in zip(flat, self._shapes, strict=True)
        ]

    def _flat_columns(self, rows_UY: Tensor) -> list[Tensor]:
        return [
            rows_UY[:, span].view(dtype)
            for span, dtype in zip(self._spans, self._types, strict=True)
        ]


class Buffer:
    """Bytes that are used again and again: pages of memory that stay, instead of new ones.

    What was taken before is overwritten by whoever writes to what is taken next.
    """

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def rows(self, num_rows: int, num_bytes: int, device: torch.device) -> Tensor:
        """[num_rows, num_bytes], of any content."""
        needed = num_rows * num_bytes
        if needed > self._bytes.numel() or device != self._bytes.device:
            self._bytes = torch.empty(needed + needed // 4, dtype=torch.uint8, device=device)
        return self._bytes[:needed].view(num_rows, num_bytes)
