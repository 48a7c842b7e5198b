"""Pack columns of rows into one buffer of bytes, column by column, and unpack them.

Each column starts at an aligned address, so that a received buffer can be read in
place. A link needs no row-major layout, unlike an exchange with all owners at once
(`RowLayout`).

Shapes: U rows, Z bytes of a buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_ALIGNMENT = 8


def frame_bytes(like: Sequence[Tensor], num_rows: int) -> int:
    """Return the bytes of a buffer of `num_rows` rows with types and row shapes of `like`."""
    return sum(_padded(_column_bytes(column, num_rows)) for column in like)


def pack_columns(columns: Sequence[Tensor], places_U: Tensor | None = None) -> Tensor:
    """Pack columns, or their rows at `places_U`, into a buffer of bytes [Z]."""
    num_rows = len(columns[0]) if places_U is None else len(places_U)
    frame_Z = torch.empty(frame_bytes(columns, num_rows), dtype=torch.uint8)
    fill_frame(frame_Z, columns, places_U)
    return frame_Z


def fill_frame(frame_Z: Tensor, columns: Sequence[Tensor], places_U: Tensor | None = None) -> None:
    """Write columns, or their rows at `places_U`, into a buffer."""
    num_rows = len(columns[0]) if places_U is None else len(places_U)
    for column, target in zip(columns, unpack_columns(frame_Z, columns, num_rows), strict=True):
        if places_U is None:
            target.copy_(column.detach())
        else:
            torch.index_select(column.detach(), 0, places_U, out=target)


def unpack_columns(frame_Z: Tensor, like: Sequence[Tensor], num_rows: int) -> list[Tensor]:
    """Return views of the columns in a buffer, with the types and row shapes of `like`."""
    columns, start = [], 0
    for column in like:
        num_bytes = _column_bytes(column, num_rows)
        view = frame_Z[start : start + num_bytes].view(column.dtype)
        columns.append(view.view(num_rows, *column.shape[1:]))
        start += _padded(num_bytes)
    return columns


def _column_bytes(column: Tensor, num_rows: int) -> int:
    return num_rows * math.prod(column.shape[1:]) * column.element_size()


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
