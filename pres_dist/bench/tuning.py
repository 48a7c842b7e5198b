"""Choose values from the tuning grid by validation AP of the first seed alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pres_dist.bench.ledger import FINISHED, Ledger
from pres_dist.bench.plan import Cell, Sweep, Task, Values
from pres_dist.bench.records import Record

Choices = Mapping[Cell, Values | None]
"""Chosen values of each cell; None until all candidates that it depends on are finished."""


def candidates(sweep: Sweep, cell: Cell) -> list[Task]:
    """Return the runs that try the whole grid in a cell."""
    return [sweep.task(cell, sweep.config.seeds[0], tuned) for tuned in sweep.grid]


def choose(sweep: Sweep, ledger: Ledger) -> Choices:
    """Return the values with the best validation AP for each cell.

    Every method tries the same number of values. With `per: method`, the values with the best mean
    AP over all cells of the method are chosen. A diverged run ranks last.
    """
    if len(sweep.grid) == 1:
        return dict.fromkeys(sweep.cells, sweep.grid[0])
    scores = {cell: _scores(sweep, ledger, cell) for cell in sweep.cells}
    if sweep.config.tuning.per == "cell":
        return {cell: _best(sweep.grid, [scores[cell]]) for cell in sweep.cells}
    per_method = {
        method: _best(sweep.grid, [scores[c] for c in sweep.cells if c.method == method])
        for method in sweep.methods
    }
    return {cell: per_method[cell.method] for cell in sweep.cells}


def _scores(sweep: Sweep, ledger: Ledger, cell: Cell) -> list[float] | None:
    """Return the validation AP of each candidate; None until all are finished."""
    tasks = candidates(sweep, cell)
    if any(ledger.state(task) not in FINISHED for task in tasks):
        return None
    return [_score(ledger.record(task)) for task in tasks]


def _score(record: Record | None) -> float:
    ap = record["validation"]["ap"] if record else None
    return -math.inf if ap is None else ap


def _best(grid: Sequence[Values], scores: Sequence[list[float] | None]) -> Values | None:
    """Return the candidate with the highest sum; the first of equals."""
    known = [row for row in scores if row is not None]
    if len(known) < len(scores):
        return None
    sums = [sum(column) for column in zip(*known, strict=True)]
    return grid[sums.index(max(sums))]
