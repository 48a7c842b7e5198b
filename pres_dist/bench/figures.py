"""Plots of a sweep: figures against the temporal batch, with a line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from pres_dist.bench.cells import Results
from pres_dist.bench.plan import Sweep
from pres_dist.bench.statistics import Estimate
from pres_dist.bench.sweep import Outcome
from pres_dist.report.figure import Figure, make_figure

PLOTS = (
    ("ap", "AP", "Link prediction on the test split; mean and 95% interval over seeds.", "AP"),
    ("mrr", "MRR", "Of the true destination among the negatives, test split.", "MRR"),
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
        "us",
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
        "Squared error of the prediction over that of persistence; above 1 is worse than none.",
        "ratio",
    ),
)
"""Name of the figure in a cell, title, caption and unit of each plot."""


LOGARITHMIC = ("prediction_ratio",)
FROM_ZERO = ("seconds_per_epoch", "cpu_microseconds_per_event")
WITH_INTERVAL = ("ap", "mrr", "gate", "coherence")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def sweep_figures(
    sweep: Sweep, results: Results, outcomes: Sequence[Outcome], stream: str
) -> list[Figure]:
    """Return the plots of a stream's results that have data."""
    made = [_figure(sweep, results, stream, *plot) for plot in PLOTS]
    made.append(_learning(sweep, outcomes, stream))
    return [figure for figure in made if figure is not None]


def _figure(
    sweep: Sweep, results: Results, stream: str, name: str, title: str, caption: str, unit: str
) -> Figure | None:
    """Plot one figure of the cells against the temporal batch."""
    traces = []
    for method in sweep.methods:
        points = [
            (cell.batch_size, estimate)
            for cell, result in results.items()
            if (cell.stream, cell.method) == (stream, method)
            and (estimate := result.figures[name]) is not None
        ]
        traces += _line(method, points, _color(sweep, method), name in WITH_INTERVAL)
    place = _place(sweep, name, stream)
    figure = make_figure(place, title, caption, traces, "temporal batch", unit)
    if figure is None:
        return None
    sizes = sorted(sweep.config.batch_sizes)
    ticks = {"tickvals": sizes, "ticktext": [f"{size:,}" for size in sizes]}
    figure.layout["xaxis"].update(type="log", **ticks)
    if name in FROM_ZERO:
        figure.layout["yaxis"]["rangemode"] = "tozero"
    if name in LOGARITHMIC:
        figure.layout["yaxis"].update(type="log")
    return figure


def _line(
    method: str, points: Sequence[tuple[int, Estimate]], color: str, with_interval: bool
) -> list[dict[str, Any]]:
    if not points:
        return []
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": method,
        "x": [batch for batch, _ in points],
        "y": [estimate.mean for _, estimate in points],
        "line": {"color": color, "width": 2},
    }
    if with_interval:
        halves = [estimate.half or 0 for _, estimate in points]
        trace["error_y"] = {"array": halves, "thickness": 1, "width": 4, "color": color}
    return [trace]


def _learning(sweep: Sweep, outcomes: Sequence[Outcome], stream: str) -> Figure | None:
    """Plot validation AP over CPU time of the first seed, with a line for each method and batch."""
    sizes = sorted(sweep.config.batch_sizes)
    traces = [
        _curve(sweep, outcome, DASHES[sizes.index(outcome.task.cell.batch_size) % len(DASHES)])
        for outcome in outcomes
        if outcome.chosen
        and outcome.record is not None
        and outcome.task.cell.stream == stream
        and outcome.task.seed == sweep.config.seeds[0]
    ]
    caption = (
        f"Validation AP after each epoch, seed {sweep.config.seeds[0]}, over CPU seconds of "
        f"training; from solid to dotted: batches of {', '.join(f'{size:,}' for size in sizes)}."
    )
    place = _place(sweep, "learning", stream)
    return make_figure(place, "Learning", caption, traces, "CPU seconds of training", "AP")


def _curve(sweep: Sweep, outcome: Outcome, dash: str) -> dict[str, Any]:
    epochs = outcome.record["epochs"] if outcome.record is not None else []
    method, batch = outcome.task.cell.method, outcome.task.cell.batch_size
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{method}, {batch:,}",
        "legendgroup": method,
        "showlegend": False,
        "x": list(accumulate(epoch["train_cpu_seconds"] for epoch in epochs)),
        "y": [epoch["validation_ap"] for epoch in epochs],
        "line": {"color": _color(sweep, method), "width": 1.5, "dash": dash},
    }


def _color(sweep: Sweep, method: str) -> str:
    return f"series-{list(sweep.methods).index(method) % 10 + 1}"


def _place(sweep: Sweep, name: str, stream: str) -> str:
    """Return a name that is valid as an HTML id."""
    return f"{name}-{list(sweep.config.streams).index(stream)}"
