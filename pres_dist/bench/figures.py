"""The plots of a sweep: figures against the temporal batch, a line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pres_dist.bench.cells import Results
from pres_dist.bench.plan import Cell, Sweep
from pres_dist.bench.statistics import Estimate
from pres_dist.report.figure import Figure, make_figure

PLOTS = (
    ("ap", "AP", "Link prediction on the test part; mean and 95% interval over seeds.", "AP"),
    ("mrr", "MRR", "Of the true destination among the negatives, test part.", "MRR"),
    (
        "seconds_per_epoch",
        "Seconds an epoch",
        "Wall-clock time of training, evaluation not counted.",
        "s",
    ),
    (
        "cpu_microseconds_per_event",
        "CPU time an event",
        "CPU time of training by event, evaluation not counted.",
        "microseconds",
    ),
    (
        "gate",
        "PRES gate",
        "Weight of the measured state in the correction, in the best epoch.",
        "gate",
    ),
    (
        "coherence",
        "Memory coherence",
        "Mean cosine of a node's memory before and after its update, in the best epoch.",
        "cosine",
    ),
    (
        "prediction_ratio",
        "Prediction error",
        "Squared error of the prediction over that of persistence; below 1 is better than none.",
        "ratio",
    ),
)
"""Figure of a cell, title, caption, unit."""


def sweep_figures(sweep: Sweep, results: Results, stream: str) -> list[Figure]:
    """The plots that a stream's results have data for."""
    made = [_figure(sweep, results, stream, *plot) for plot in PLOTS]
    return [figure for figure in made if figure is not None]


def _figure(
    sweep: Sweep, results: Results, stream: str, name: str, title: str, caption: str, unit: str
) -> Figure | None:
    traces = []
    for series, method in enumerate(sweep.methods, start=1):
        points = [
            (batch, estimate)
            for batch in sorted(sweep.config.batch_sizes)
            if (estimate := _estimate(results, Cell(stream, batch, method), name)) is not None
        ]
        traces += _line(method, points, series)
    figure = make_figure(
        f"{name}-{_id(sweep, stream)}", title, caption, traces, "temporal batch", unit
    )
    if figure is not None:
        sizes = sorted(sweep.config.batch_sizes)
        figure.layout["xaxis"].update(
            type="log", tickvals=sizes, ticktext=[f"{size:,}" for size in sizes]
        )
        if unit in ("s", "microseconds"):
            figure.layout["yaxis"]["rangemode"] = "tozero"
    return figure


def _estimate(results: Results, cell: Cell, name: str) -> Estimate | None:
    result = results.get(cell)
    return None if result is None else result.figures[name]


def _line(method: str, points: Sequence[tuple[int, Estimate]], series: int) -> list[dict[str, Any]]:
    if not points:
        return []
    colour = {"color": f"series-{(series - 1) % 10 + 1}"}
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": method,
            "x": [batch for batch, _ in points],
            "y": [estimate.mean for _, estimate in points],
            "error_y": {
                "type": "data",
                "array": [estimate.half or 0 for _, estimate in points],
                "thickness": 1,
                "width": 4,
                **colour,
            },
            "line": {**colour, "width": 2},
        }
    ]


def _id(sweep: Sweep, stream: str) -> str:
    """A name that HTML takes for the stream."""
    return f"stream-{list(sweep.config.streams).index(stream)}"
