"""Choice between results whose sizes depend on values and results of fixed sizes.

Compacting (only distinct nodes, only nodes with a message) saves work on a CPU. A GPU makes the
host wait for each such size, and a recorded step (`training/captured.py`) must have the sizes of
every batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


class _Shapes(threading.local):
    fixed = False


_shapes = _Shapes()


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Use only operations whose results have fixed sizes in the block, on this thread."""
    before, _shapes.fixed = _shapes.fixed, True
    try:
        yield
    finally:
        _shapes.fixed = before


def shapes_are_fixed() -> bool:
    """Return True inside a block of `fixed_shapes`."""
    return _shapes.fixed


@dataclass(frozen=True)
class Room:
    """Fixed number of places for distinct values.

    Attributes:
        size: number U of places.
        padding: value of the places without a distinct value; above all values.
    """

    size: int
    padding: int


def distinct_within(values_X: Tensor, room: Room) -> tuple[Tensor, Tensor, Tensor]:
    """Return distinct values in a result of fixed size; `unique` with a bound on the size.

    Args:
        values_X: int64 values.
        room: places for them.

    Returns:
        ascending values [U], the place of each value [X], and the number of distinct values as a
        scalar. If it exceeds the room, the largest values have no place: the result is invalid.
    """
    sorted_X, order_X = torch.sort(values_X, stable=True)
    new_X = torch.ones_like(sorted_X, dtype=torch.bool)
    new_X[1:] = sorted_X[1:] != sorted_X[:-1]
    rank_X = new_X.cumsum(0) - 1
    place_X = torch.empty_like(rank_X).index_copy_(0, order_X, rank_X)
    # Equal values write one place, with equal results; an extra place takes what does not fit.
    distinct = sorted_X.new_full((room.size + 1,), room.padding)
    distinct.index_copy_(0, rank_X.clamp(max=room.size), sorted_X)
    return distinct[: room.size], place_X.clamp(max=room.size - 1), rank_X[-1] + 1
