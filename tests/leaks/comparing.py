"""Differences between two runs.

An event whose temporal batch also holds changed events is compared to rounding: matrix
products of another shape may round differently. All else is compared to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from tests.leaks.recording import Record, Row, Tables

ROUNDING = 1e-5


def different_rows(
    one: Record,
    other: Record,
    chosen: Callable[[Row], bool] = lambda row: True,
    exact: bool = True,
) -> Iterator[str]:
    """Scored events, of those that are chosen, whose scores or negatives are others.

    To the last bit where `chosen` would choose all of an event's batch; else to rounding. The
    final evaluation is left out where it is of another epoch.
    """
    last = len(one.validated) + (one.best_epoch == other.best_epoch)
    rows = [
        [row for row in record.rows if row.epoch <= last and chosen(row)] for record in (one, other)
    ]
    if len(rows[0]) != len(rows[1]):
        yield f"{len(rows[0])} events were scored, then {len(rows[1])}"
        return
    for row, again in zip(*rows, strict=True):
        whole = exact and all(chosen(replace(it, event=it.last)) for it in (row, again))
        same = np.array_equal if whole else near
        if (row.epoch, row.event) != (again.epoch, again.event):
            yield f"{row} was scored, then {again}"
        elif not np.array_equal(row.negatives, again.negatives):
            yield f"{row}: other negatives"
        elif not same(row.scores, again.scores):
            yield f"{row}: scores differ by {np.abs(row.scores - again.scores).max():.1e}"


def different_tables(one: Sequence[Tables], other: Sequence[Tables], when: str) -> Iterator[str]:
    """Weights, memory or statistics that are not the same to the last bit."""
    if len(one) != len(other):
        yield f"{len(one)} epochs, then {len(other)}"
    for epoch, (tables, again) in enumerate(zip(one, other, strict=False), 1):
        for name, table in tables.items():
            if not np.array_equal(table, again[name]):
                yield f"{name} at {when} of epoch {epoch}"


def different_choice(one: Record, other: Record) -> Iterator[str]:
    """Validation, and what follows from it."""
    yield from different_tables(one.validated, other.validated, "the end of validation")
    if repr(one.validation) != repr(other.validation):
        yield "metrics of validation"
    if one.best_epoch != other.best_epoch:
        yield f"the best epoch was {one.best_epoch}, then {other.best_epoch}"


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(one, other, rtol=ROUNDING, atol=ROUNDING)


def assert_seen(before: list[Record], after: list[Record], first: int) -> None:
    """Check that scores from the change on do differ: the probe is not blind."""
    pairs = zip(before, after, strict=True)
    assert any(list(different_rows(*pair, lambda row: row.event >= first)) for pair in pairs)
