"""Measure the limits of this machine, next to the step and with the same clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pres_dist.bench.step.work_counter import Gemm

_LONG_S = 0.02
_ROUNDS = 5
_COPIED = 64 << 20
_MOST_GEMMS = 12
"""Largest number of matrix products to measure: those with the most operations."""


@dataclass(frozen=True)
class Limits:
    """Limits of the machine: the best of a few rounds.

    Attributes:
        gemm_flops: operations per second of matrix products with the shapes of the step.
        copy_bytes: bytes per second, read and written, of a copy of 64 MiB.
        gather_bytes: bytes per second, read and written, of gathering random rows of node memory.
    """

    gemm_flops: float
    copy_bytes: float
    gather_bytes: float

    def best(self, other: Limits) -> Limits:
        """Return the higher value of each limit."""
        return Limits(
            *(max(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True))
        )


def measure_limits(
    gemms: Counter[Gemm],
    table: tuple[int, int, int],
    device: torch.device,
    now: Callable[[], float],
) -> Limits:
    """Measure the limits of the machine.

    Args:
        gemms: matrix products of a step, with the number of times each is computed.
        table: number of nodes, values per node, and number of nodes that a step reads.
        device: device to measure.
        now: clock in seconds.
    """
    source = torch.rand(_COPIED // 4, device=device)
    target = torch.empty_like(source)
    copied = 2 * _COPIED / _best(lambda: target.copy_(source), now)
    num_nodes, dim, read = table
    rows_ND = torch.rand(num_nodes, dim, device=device)
    index_U = torch.randint(num_nodes, (read,), device=device)
    gathered = 2 * read * dim * 4 / _best(lambda: rows_ND.index_select(0, index_U), now)
    return Limits(_gemm_flops(gemms, device, now), copied, gathered)


def flops_of(gemm: Gemm) -> int:
    """Return the floating point operations of a matrix product."""
    *_, left, right = gemm[1]
    return 2 * left.numel() * right[-1]


def _gemm_flops(gemms: Counter[Gemm], device: torch.device, now: Callable[[], float]) -> float:
    most = sorted(gemms, key=lambda gemm: flops_of(gemm) * gemms[gemm], reverse=True)[:_MOST_GEMMS]
    flops, seconds = 0, 0.0
    for name, shapes in most:
        product, given = getattr(torch, name), [torch.rand(size, device=device) for size in shapes]
        flops += flops_of((name, shapes)) * gemms[name, shapes]
        seconds += _best(lambda p=product, g=given: p(*g), now) * gemms[name, shapes]  # type: ignore[misc]
    return flops / seconds if seconds else 0.0


def _best(what: Callable[[], Tensor], now: Callable[[], float]) -> float:
    """Return the seconds of one call: the best of some rounds, each long enough for the clock."""
    what()
    # Doubled until a round is long enough that the clock's resolution does not matter.
    times = 1
    found: list[float] = []
    while len(found) < _ROUNDS:
        start = now()
        for _ in range(times):
            what()
        spent = now() - start
        if spent < _LONG_S:
            times *= 2
        else:
            found.append(spent / times)
    return min(found)
