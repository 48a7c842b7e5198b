"""Table of a model and its baselines over several kinds of negatives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pres_dist.records import MetricName, Metrics, Results, SplitName

METRICS: dict[MetricName, str] = {"ap": "AP", "auc": "AUC", "mrr": "MRR"}


def comparison_rows(by_negatives: Mapping[str, Results], part: SplitName) -> list[list[str]]:
    """Return a header row and rows for the model, each baseline and the share of negatives found.

    Args:
        by_negatives: results by the kind of negatives.
        part: validation or test.
    """
    of = {kind: results.get(part) or {} for kind, results in by_negatives.items()}
    rows = [
        [
            f"{part}, among negatives:",
            *(f"{kind} {name}" for kind in of for name in METRICS.values()),
        ]
    ]
    if any("ap" in measured for measured in of.values()):
        rows.append(["model", *_cells(of.values())])
    baselines = [measured.get("baselines") or {} for measured in of.values()]
    for name in dict.fromkeys(name for by_name in baselines for name in by_name):
        rows.append([name, *_cells(by_name.get(name, {}) for by_name in baselines)])
    shares = (_share(measured.get("negatives_found")) for measured in of.values())
    blank = [""] * (len(METRICS) - 1)
    rows.append(["negatives of that kind", *(cell for share in shares for cell in (share, *blank))])
    return rows


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines of text with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *right]).rstrip())
    return lines


def _cells(measured: Iterable[Metrics]) -> list[str]:
    return [_number(of.get(metric)) for of in measured for metric in METRICS]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
