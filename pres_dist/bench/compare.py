"""Compare two reports: which figures changed by more than the noise between runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from pres_dist.bench.compared import Compared, Measure, Values
from pres_dist.bench.statistics import estimate, t975
from pres_dist.errors import ConfigError
from pres_dist.report.comparison import aligned

WITHIN, SAME, UNKNOWN = "no difference beyond noise", "the same", "one run: noise unknown"


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

    @property
    def shown(self) -> bool:
        """True for a main figure, or one that changed."""
        return self.measure.main or self.verdict not in (WITHIN, SAME, UNKNOWN)


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
    changes = [
        change
        for point in common
        for figure in before.measures
        if (change := _change(before, after, point, figure)) is not None
    ]
    names = sorted(before.settings.keys() | after.settings.keys())
    told = [(name, before.settings.get(name, "-"), after.settings.get(name, "-")) for name in names]
    return Comparison(
        before,
        after,
        changes,
        [row for row in told if row[1] != row[2]],
        [name for name in before.points if name not in after.points],
        [name for name in after.points if name not in before.points],
    )


def comparison_lines(comparison: Comparison) -> list[str]:
    """Format the comparison as lines of text."""
    lines = [f"A: {comparison.before.path}", f"B: {comparison.after.path}", ""]
    rows = [["point", "figure", "A", "B", "B against A", "verdict"]]
    rows += [_row(change) for change in comparison.changes if change.shown]
    lines += aligned(rows)
    beyond = [c for c in comparison.changes if c.verdict not in (WITHIN, SAME, UNKNOWN)]
    lines += ["", f"{len(beyond)} of {len(comparison.changes)} figures changed beyond noise"]
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
    freedom = max(math.floor(total**2 / weights), 1)
    return difference, t975(freedom) * math.sqrt(total)


def _change(before: Compared, after: Compared, point: str, figure: str) -> Change | None:
    measure = before.measures[figure]
    a, b = (side.points[point].get(figure, {}) for side in (before, after))
    if not a or not b:
        return None
    by, half = _difference(a, b, measure)
    means = fmean(a.values()), fmean(b.values())
    verdict = _verdict(by, half, measure)
    return Change(point, figure, measure, *means, by, half, verdict)


def _difference(before: Values, after: Values, measure: Measure) -> tuple[float, float | None]:
    """Return the difference of B from A: paired by seed if seeds cause the noise, else Welch's."""
    as_ratio = _is_ratio(before, after, measure)
    a, b = (
        {key: math.log(v) if as_ratio else v for key, v in values.items()}
        for values in (before, after)
    )
    if measure.paired and a.keys() == b.keys():
        found = estimate(b[key] - a[key] for key in a)
        assert found is not None
        return found.mean, found.half
    return welch(list(a.values()), list(b.values()))


def _is_ratio(before: Values, after: Values, measure: Measure) -> bool:
    return measure.as_ratio and min(*before.values(), *after.values()) > 0


def _verdict(by: float, half: float | None, measure: Measure) -> str:
    if by == 0 and not half:
        return SAME
    if half is None:
        return UNKNOWN
    if abs(by) <= half:
        return WITHIN
    if measure.better is None:
        return "more" if by > 0 else "less"
    return "better" if (by > 0) == (measure.better == "more") else "worse"


def _row(change: Change) -> list[str]:
    means = [_number(value) for value in (change.before, change.after)]
    return [change.point, change.figure, *means, _by(change), change.verdict]


def _by(change: Change) -> str:
    """Format the change: `1.92 x (1.85 to 1.99)`, or `+0.0021 (-0.0010 to +0.0052)`."""
    ratio = change.measure.as_ratio and min(change.before, change.after) > 0
    bounds = [] if change.half is None else [change.by - change.half, change.by + change.half]
    if ratio:
        told = [f"{_exp(value):.3f}" for value in (change.by, *bounds)]
        told[0] += " x"
    else:
        told = [f"{value:+.4f}" for value in (change.by, *bounds)]
    return told[0] if len(told) == 1 else f"{told[0]} ({told[1]} to {told[2]})"


def _exp(value: float) -> float:
    """Return exp(value) without overflow: two runs may give a uselessly wide interval."""
    return math.exp(min(value, 700.0))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _few(report: Compared) -> str:
    names = list(report.points)
    return "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "") if names else "none"
