"""Compare two reports: which figures changed by more than the noise between runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from pres_dist.bench.estimates import estimate, t975
from pres_dist.bench.read_reports import Compared, Measure, Values
from pres_dist.errors import ConfigError
from pres_dist.report.result_tables import aligned

WITHIN, SAME, UNKNOWN = "no difference beyond noise", "the same", "one run: noise unknown"
_UNCHANGED = (WITHIN, SAME, UNKNOWN)


@dataclass(frozen=True)
class Change:
    """One figure of a point in both reports.

    Attributes:
        before, after: means over runs.
        by, half: ratio of B to A, or difference from A, and half its 95% interval; for a ratio,
            both are natural logarithms. `half` is None if a side has a single run.
        verdict: better, worse, more, less, or one of WITHIN, SAME and UNKNOWN.
    """

    point: str
    figure: str
    measure: Measure
    before: float
    after: float
    by: float
    half: float | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Comparison of two reports.

    Attributes:
        settings: name, A's value and B's value of the settings that differ.
        only_before, only_after: points that the other report lacks.
    """

    before: Compared
    after: Compared
    changes: Sequence[Change]
    settings: Sequence[tuple[str, str, str]]
    only_before: Sequence[str]
    only_after: Sequence[str]


def compare(before: Compared, after: Compared) -> Comparison:
    """Compare two reports.

    Raises:
        ConfigError: The reports are of different benches, or have no point in common.
    """
    if before.kind != after.kind:
        raise ConfigError(
            f"{before.path} is a report of {before.kind} and {after.path} one of {after.kind}: "
            "there is nothing to compare"
        )
    common = [name for name in before.points if name in after.points]
    if not common:
        raise ConfigError(
            f"{before.path} and {after.path} have no point in common: "
            f"{_few(before)} in the one, {_few(after)} in the other"
        )
    names = sorted(before.settings.keys() | after.settings.keys())
    settings = [(n, before.settings.get(n, "-"), after.settings.get(n, "-")) for n in names]
    return Comparison(
        before,
        after,
        [
            _change(point, figure, measure, a[figure], b[figure])
            for point in common
            for a, b in [(before.points[point], after.points[point])]
            for figure, measure in before.measures.items()
            if a.get(figure) and b.get(figure)
        ],
        [row for row in settings if row[1] != row[2]],
        [name for name in before.points if name not in after.points],
        [name for name in after.points if name not in before.points],
    )


def comparison_lines(comparison: Comparison) -> list[str]:
    """Format the comparison as lines of text: main figures, and others that changed."""
    rows = [["point", "figure", "A", "B", "B against A", "verdict"]]
    for change in comparison.changes:
        if change.measure.main or change.verdict not in _UNCHANGED:
            means = [
                f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
                for value in (change.before, change.after)
            ]
            rows.append([change.point, change.figure, *means, _by(change), change.verdict])
    beyond = sum(change.verdict not in _UNCHANGED for change in comparison.changes)
    lines = [f"A: {comparison.before.path}", f"B: {comparison.after.path}", "", *aligned(rows), ""]
    lines.append(f"{beyond} of {len(comparison.changes)} figures changed beyond noise")
    for title, names in (("A", comparison.only_before), ("B", comparison.only_after)):
        lines += [f"only in {title}: {name}" for name in names]
    if comparison.settings:
        lines += ["", *aligned([["made with", "A", "B"], *map(list, comparison.settings)])]
    return lines


def welch(before: Sequence[float], after: Sequence[float]) -> tuple[float, float | None]:
    """Return the difference of two means and half its 95% interval (Welch, Biometrika 34, 1947).

    Returns:
        The difference, and half its interval; None for the half if a side has a single value.
    """
    difference = fmean(after) - fmean(before)
    if min(len(before), len(after)) < 2:
        return difference, None
    parts = [variance(values) / len(values) for values in (before, after)]
    total = sum(parts)
    if not total:
        return difference, 0.0
    sizes = (len(before), len(after))
    weights = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    # Rounded down, which makes the interval wider rather than too narrow.
    freedom = max(math.floor(total**2 / weights), 1)
    return difference, t975(freedom) * math.sqrt(total)


def _change(point: str, figure: str, measure: Measure, before: Values, after: Values) -> Change:
    # Figures with a zero have no logarithm, so their difference is taken.
    as_ratio = measure.as_ratio and min(*before.values(), *after.values()) > 0
    a, b = (
        {key: math.log(v) if as_ratio else v for key, v in values.items()}
        for values in (before, after)
    )
    half: float | None
    # The noise of a paired figure comes from the seed, so that differences by seed have less.
    if measure.paired and a.keys() == b.keys():
        found = estimate(b[key] - a[key] for key in a)
        assert found is not None
        by, half = found.mean, found.half
    else:
        by, half = welch(list(a.values()), list(b.values()))
    if by == 0 and not half:
        verdict = SAME
    elif half is None:
        verdict = UNKNOWN
    elif abs(by) <= half:
        verdict = WITHIN
    elif measure.better is None:
        verdict = "more" if by > 0 else "less"
    else:
        verdict = "better" if (by > 0) == (measure.better == "more") else "worse"
    means = fmean(before.values()), fmean(after.values())
    return Change(point, figure, measure, *means, by, half, verdict)


def _by(change: Change) -> str:
    """Format the change: `1.92 x (1.85 to 1.99)`, or `+0.0021 (-0.0010 to +0.0052)`."""
    values = [change.by]
    if change.half is not None:
        values += [change.by - change.half, change.by + change.half]
    if change.measure.as_ratio and min(change.before, change.after) > 0:
        # Two runs may give a uselessly wide interval, whose exponential would overflow.
        told = [f"{math.exp(min(value, 700.0)):.3f}" for value in values]
        told[0] += " x"
    else:
        told = [f"{value:+.4f}" for value in values]
    return told[0] if len(told) == 1 else f"{told[0]} ({told[1]} to {told[2]})"


def _few(report: Compared) -> str:
    names = list(report.points)
    return "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "") if names else "none"
