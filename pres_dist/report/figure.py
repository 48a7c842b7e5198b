"""A plot of a report, as a plain plotly description.

Colors are roles such as `series-1`. The page maps them to colors of its light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A plot, with `traces` and `layout` in plotly's format."""

    name: str
    title: str
    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)


def make_figure(
    name: str,
    title: str,
    caption: str,
    traces: list[dict[str, Any]],
    x_title: str,
    y_title: str,
    whole_x: bool = False,
) -> Figure | None:
    """Return a figure, or None without traces; `whole_x` puts ticks on whole numbers only."""
    if not traces:
        return None
    ticks = {"tickformat": "d", "dtick": 1} if whole_x and len(traces[0]["x"]) <= 12 else {}
    layout = {
        "xaxis": {"title": {"text": x_title}, **ticks},
        "yaxis": {"title": {"text": y_title}},
        "showlegend": len(traces) > 1,
    }
    return Figure(name, title, caption, traces, layout)


def bars(
    name: str, labels: Sequence[str], values: Sequence[float | None], series: int, unit: str
) -> dict[str, Any]:
    """Return a plotly trace of horizontal bars, one for each label."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": list(labels),
        "x": list(values),
        "marker": {"color": f"series-{series}"},
        "hovertemplate": f"{name}: %{{x:.2f}}{unit}<extra></extra>",
    }
