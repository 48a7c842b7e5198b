"""Plots of a sweep: figures against the temporal batch, with a line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from pres_dist.bench.run_records import Record
from pres_dist.bench.sweep_cells import CellResults
from pres_dist.bench.sweep_runs import Outcome
from pres_dist.bench.sweep_spec import Cell, SweepSpec
from pres_dist.report.figure import Figure, make_figure

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


class Plot(NamedTuple):
    """A plot of a figure of the cells; `error_bars` adds 95% intervals."""

    figure: str
    title: str
    caption: str
    unit: str
    error_bars: bool = False
    axis: str | None = None
    """tozero: starts at 0. log: logarithmic."""


PLOTS = (
    Plot(
        "ap",
        "AP",
        "Link prediction on the test split; mean and 95% interval over seeds.",
        "AP",
        error_bars=True,
    ),
    Plot("mrr", "MRR", "Of the true destination among the negatives, test split.", "MRR", True),
    Plot(
        "seconds_per_epoch",
        "Seconds an epoch",
        "Wall-clock time of training, evaluation not counted.",
        "s",
        axis="tozero",
    ),
    Plot(
        "cpu_microseconds_per_event",
        "CPU time an event",
        "CPU time of training by event, evaluation not counted.",
        "us",
        axis="tozero",
    ),
    Plot(
        "gate",
        "PRES gate",
        "Weight of the measured state in the correction, in the best epoch.",
        "gate",
        error_bars=True,
    ),
    Plot(
        "coherence",
        "Memory coherence",
        "Mean cosine of a node's memory before and after its update, in the best epoch.",
        "cosine",
        error_bars=True,
    ),
    Plot(
        "prediction_ratio",
        "Prediction error",
        "Squared error of the prediction over that of persistence; above 1 is worse than none.",
        "ratio",
        axis="log",
    ),
)


def sweep_figures(
    sweep: SweepSpec, results: CellResults, outcomes: Sequence[Outcome], stream: str
) -> list[Figure]:
    """Return the plots of a stream's results that have data."""
    # A number in place of the stream's name, so that the plot's name is valid as an HTML id.
    place = list(sweep.config.streams).index(stream)
    colors = {name: f"series-{at % 10 + 1}" for at, name in enumerate(sweep.methods)}
    made = [_figure(plot, place, sweep, results, stream, colors) for plot in PLOTS]
    made.append(_learning(place, sweep, outcomes, stream, colors))
    return [figure for figure in made if figure is not None]


def _figure(
    plot: Plot,
    place: int,
    sweep: SweepSpec,
    results: CellResults,
    stream: str,
    colors: dict[str, str],
) -> Figure | None:
    """Plot one figure of the cells against the temporal batch."""
    traces = []
    for method, color in colors.items():
        points = [
            (cell.batch_size, estimate)
            for cell, result in results.items()
            if (cell.stream, cell.method) == (stream, method)
            and (estimate := result.figures[plot.figure]) is not None
        ]
        if not points:
            continue
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": method,
            "x": [batch for batch, _ in points],
            "y": [estimate.mean for _, estimate in points],
            "line": {"color": color, "width": 2},
        }
        if plot.error_bars:
            halves = [estimate.half or 0 for _, estimate in points]
            trace["error_y"] = {"array": halves, "thickness": 1, "width": 4, "color": color}
        traces.append(trace)
    name = f"{plot.figure}-{place}"
    figure = make_figure(name, plot.title, plot.caption, traces, "temporal batch", plot.unit)
    if figure is None:
        return None
    ticks = [f"{size:,}" for size in sweep.sizes]
    figure.layout["xaxis"].update(type="log", tickvals=sweep.sizes, ticktext=ticks)
    if plot.axis == "tozero":
        figure.layout["yaxis"]["rangemode"] = "tozero"
    if plot.axis == "log":
        figure.layout["yaxis"].update(type="log")
    return figure


def _learning(
    place: int,
    sweep: SweepSpec,
    outcomes: Sequence[Outcome],
    stream: str,
    colors: dict[str, str],
) -> Figure | None:
    """Plot validation AP over CPU time of the first seed, with a line for each method and batch."""
    seed = sweep.config.seeds[0]
    traces = [
        _curve(outcome.task.cell, outcome.record, sweep, colors)
        for outcome in outcomes
        if outcome.chosen
        and outcome.record is not None
        and outcome.task.cell.stream == stream
        and outcome.task.seed == seed
    ]
    caption = (
        f"Validation AP after each epoch, seed {seed}, over CPU seconds of training; from solid to "
        f"dotted: batches of {', '.join(f'{size:,}' for size in sweep.sizes)}."
    )
    return make_figure(
        f"learning-{place}", "Learning", caption, traces, "CPU seconds of training", "AP"
    )


def _curve(cell: Cell, record: Record, sweep: SweepSpec, colors: dict[str, str]) -> dict[str, Any]:
    dash = DASHES[sweep.sizes.index(cell.batch_size) % len(DASHES)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{cell.method}, {cell.batch_size:,}",
        "legendgroup": cell.method,
        "showlegend": False,
        "x": list(accumulate(epoch["train_cpu_seconds"] for epoch in record["epochs"])),
        "y": [epoch["validation_ap"] for epoch in record["epochs"]],
        "line": {"color": colors[cell.method], "width": 1.5, "dash": dash},
    }
