"""Largest tolerated temporal batches, and whether a method increases them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pres_dist.bench.sweep_cells import CellResults
from pres_dist.bench.sweep_spec import SweepSpec

FACTOR = 4
"""Increase of the batch size claimed for PRES (Su, Zou and Wu, ICLR 2024)."""
_ROUNDING = 1e-9
"""Margin for rounding: a loss of exactly the tolerance is within it."""


@dataclass(frozen=True)
class Tolerated:
    """Largest batches of a stream and method whose mean AP is within tolerance of a reference.

    Attributes:
        of_own_base: within tolerance of the same method at the base batch.
        of_baseline: within tolerance of the baseline at the base batch.
        of_best: within tolerance of the method's best batch.
    """

    stream: str
    method: str
    of_own_base: int | None
    of_baseline: int | None
    of_best: int | None

    @property
    def batches(self) -> tuple[int | None, ...]:
        """All three batches."""
        return self.of_own_base, self.of_baseline, self.of_best


def tolerated(sweep: SweepSpec, results: CellResults) -> list[Tolerated]:
    """Return the largest tolerated batches of every stream and method.

    A batch is None if its reference has not been measured, or if no batch is within tolerance.
    """
    rows = []
    for stream in sweep.config.streams:
        baseline = _ap_by_batch(results, stream, sweep.config.baseline).get(sweep.base_batch)
        for method in sweep.methods:
            aps = _ap_by_batch(results, stream, method)
            references = (aps.get(sweep.base_batch), baseline, max(aps.values(), default=None))
            largest = [_largest(aps, ref, sweep.config.tolerance) for ref in references]
            rows.append(Tolerated(stream, method, *largest))
    return rows


def goal_lines(sweep: SweepSpec, results: CellResults) -> list[str]:
    """Report for every method but baselines in how many cases each goal holds."""
    return [
        line
        for method in sweep.methods
        if sweep.against(method) != method
        for line in (_growth(sweep, results, method), _at_least(sweep, results, method))
    ]


def _ap_by_batch(results: CellResults, stream: str, method: str) -> dict[int, float]:
    """Return the mean test AP by batch, for batches that have one."""
    return {
        cell.batch_size: result.ap
        for cell, result in results.items()
        if cell.stream == stream and cell.method == method and result.ap is not None
    }


def _largest(aps: Mapping[int, float], reference: float | None, tolerance: float) -> int | None:
    if reference is None:
        return None
    within = [batch for batch, ap in aps.items() if ap >= reference - tolerance - _ROUNDING]
    return max(within, default=None)


def _growth(sweep: SweepSpec, results: CellResults, method: str) -> str:
    """Report whether the method stays within tolerance at 4 times the baseline's largest batch."""
    other, tolerance = sweep.against(method), sweep.config.tolerance
    within, num_measured, unmeasured = [], 0, []
    for stream in sweep.config.streams:
        baseline = _ap_by_batch(results, stream, other)
        reference = baseline.get(sweep.base_batch)
        largest = _largest(baseline, reference, tolerance)
        ap = largest and _ap_by_batch(results, stream, method).get(FACTOR * largest)
        if largest is None or reference is None or ap is None:
            unmeasured.append(f"{stream} ({'-' if largest is None else f'{FACTOR * largest:,}'})")
            continue
        num_measured += 1
        if ap >= reference - tolerance - _ROUNDING:
            within.append(stream)
    text = (
        f"at {FACTOR} x the largest batch that {other} tolerates, {method} stays within "
        f"{tolerance:g} of {other} at {sweep.base_batch:,} on {len(within)} of "
        f"{num_measured} streams"
    )
    text += f" ({', '.join(within)})" if within else ""
    return text + (f"; not measured: {', '.join(unmeasured)}" if unmeasured else "")


def _at_least(sweep: SweepSpec, results: CellResults, method: str) -> str:
    """Report whether the method reaches at least the baseline at every large batch."""
    smallest = sweep.config.goal_batch
    cells = [
        (result.difference.mean, result.verdict)
        for cell, result in results.items()
        if cell.method == method and cell.batch_size >= smallest and result.difference is not None
    ]
    reached = sum(mean >= 0 for mean, _ in cells)
    worse = sum(verdict.startswith("worse") for _, verdict in cells)
    return (
        f"{method} has at least the mean AP of {sweep.against(method)} at every batch >= "
        f"{smallest:,}: {reached} of {len(cells)} cells; worse beyond the interval in {worse}"
    )
