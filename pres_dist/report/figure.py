"""A plot of a report, as a plain plotly description.

Colors are roles such as `series-1`. The page maps them to colors of its light or dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Trace = dict[str, Any]
"""A trace in plotly's format."""


@dataclass(frozen=True)
class Figure:
    """A plot, with `traces` and `layout` in plotly's format."""

    name: str
    title: str
    caption: str
    traces: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)


def make_figure(
    name: str,
    title: str,
    caption: str,
    traces: list[Trace],
    x_title: str,
    y_title: str,
    whole_x: bool = False,
    y_axis: Mapping[str, object] | None = None,
    **layout: object,
) -> Figure | None:
    """Return a figure, or None without traces.

    `whole_x` puts ticks on whole numbers only; `y_axis` and `layout` are more settings in plotly's
    format.
    """
    if not traces:
        return None
    ticks = {"tickformat": "d", "dtick": 1} if whole_x and len(traces[0]["x"]) <= 12 else {}
    full = {
        "xaxis": {"title": {"text": x_title}, **ticks},
        "yaxis": {"title": {"text": y_title}, **(y_axis or {})},
        "showlegend": len(traces) > 1,
        **layout,
    }
    return Figure(name, title, caption, traces, full)


def bars(
    name: str, labels: Sequence[str], values: Sequence[float | None], series: int, unit: str
) -> Trace:
    """Return a trace of horizontal bars, one for each label."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": list(labels),
        "x": list(values),
        "marker": {"color": f"series-{series}"},
        "hovertemplate": f"{name}: %{{x:.2f}}{unit}<extra></extra>",
    }
