"""Warnings about metrics in which a model is no better than a baseline without learning."""

from __future__ import annotations

from pres_dist.records import Results
from pres_dist.report.metric_names import NAMES, metrics_in


def shortcomings(results: Results) -> list[str]:
    """Return a warning for each test metric in which the model does not beat all baselines."""
    test = results.get("test") or {}
    baselines = test.get("baselines") or {}
    lines = []
    for metric in metrics_in([test]):
        reached = {name: of.get(metric) for name, of in baselines.items()}
        known = {name: value for name, value in reached.items() if value is not None}
        if not known or test.get(metric) is None:
            continue
        best = max(known, key=lambda name: known[name])
        if test[metric] <= known[best]:
            lines.append(
                f"warning: test {NAMES[metric]} {test[metric]:.4f} does not beat {best} "
                f"({known[best]:.4f}): the model has learned nothing that "
                f"{_rule(best)} does not tell"
            )
    return lines


def _rule(baseline: str) -> str:
    """Describe a baseline's rule in words."""
    if baseline.startswith("EdgeBank"):
        return "remembering which pairs have met"
    if baseline.startswith("most popular"):
        return "counting a destination's earlier events"
    return f"the {baseline}"
