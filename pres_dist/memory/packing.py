"""Pack columns of any types side by side into the bytes of a row, and unpack them.

Shapes: U rows, Y bytes of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_ALIGNMENT = 8


class RowLayout:
    """Byte layout of a packed row: wide types first, so that all columns are aligned.

    Args:
        like: columns [..., ...] with the types and row shapes of the rows.

    Attributes:
        num_bytes: size of a row, a multiple of 8.
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
        """Return the columns [U, ...] of packed rows, as views."""
        flat = self._flat_columns(rows_UY)
        return [
            part.view(len(part), *shape) for part, shape in zip(flat, self._shapes, strict=True)
        ]

    def pack(self, columns: Sequence[Tensor], order_U: Tensor | None, into_UY: Tensor) -> None:
        """Write columns into rows, copying each once.

        Args:
            columns: [V, ...].
            order_U: indices of the rows to write, in this order; None for all rows in order.
            into_UY: bytes of the packed rows.
        """
        for part, column in zip(self._flat_columns(into_UY), columns, strict=True):
            flat = column.detach().reshape(len(column), -1 if len(column) else part.shape[1])
            if order_U is None:
                part.copy_(flat)
            else:
                torch.index_select(flat, 0, order_U, out=part)

    def unpack(self, rows_UY: Tensor, order_V: Tensor) -> list[Tensor]:
        """Return copies of the columns [V, ...], with rows in the given order."""
        # One copy per column: `index_select` also makes the strided rows dense.
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
    """Reusable byte buffer, which avoids allocating new pages.

    Each result of `rows` shares memory with the previous one and overwrites it.
    """

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def rows(self, num_rows: int, num_bytes: int, device: torch.device) -> Tensor:
        """Return an uninitialized [num_rows, num_bytes] view of the buffer."""
        needed = num_rows * num_bytes
        if needed > self._bytes.numel() or device != self._bytes.device:
            self._bytes = torch.empty(needed + needed // 4, dtype=torch.uint8, device=device)
        return self._bytes[:needed].view(num_rows, num_bytes)
