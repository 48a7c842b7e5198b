"""Pack columns of rows of any types into one buffer of bytes, and unpack them.

An all-to-all exchange splits its buffer by rows, so a `RowLayout` puts the columns of a row
side by side. A link to one receiver, or a copy between host and device, takes the whole
buffer: there the columns lie one after the other (a frame), each at an aligned address, so
that a received buffer can be read in place.

Shapes: U rows, Y bytes of a row, Z bytes of a frame.
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
        self.num_bytes = _padded(end)

    def columns(self, rows_UY: Tensor) -> list[Tensor]:
        """Return the columns [U, ...] of packed rows, as views."""
        return self._shaped(self._flat_columns(rows_UY))

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
        return self._shaped([part.index_select(0, order_V) for part in self._flat_columns(rows_UY)])

    def _shaped(self, flat: list[Tensor]) -> list[Tensor]:
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


# Launch and synchronization dominate the cost of a copy between GPU and host, so all columns
# are copied as one frame.


def to_device(columns: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy columns [U, ...] from the host to a device, without waiting for the copy to finish."""
    if device.type == "cpu":
        return list(columns)
    num_rows = len(columns[0])
    # Torch reuses pinned memory only after the copy from it has finished.
    frame_Z = pinned(frame_bytes(columns, num_rows), device)
    fill_frame(frame_Z, columns)
    return unpack_columns(frame_Z.to(device, non_blocking=True), columns, num_rows)


def to_host(columns: Sequence[Tensor]) -> list[Tensor]:
    """Copy columns [U, ...] from one device to the host, waiting once for all of them."""
    device = columns[0].device
    if device.type == "cpu":
        return list(columns)
    num_rows = len(columns[0])
    frame_Z = torch.empty(frame_bytes(columns, num_rows), dtype=torch.uint8, device=device)
    fill_frame(frame_Z, columns)
    host_Z = pinned(frame_Z.numel(), device).copy_(frame_Z)
    return unpack_columns(host_Z, columns, num_rows)


def pinned(num_bytes: int, device: torch.device) -> Tensor:
    """Return [num_bytes] bytes of host memory, page-locked for asynchronous copies with CUDA."""
    return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
