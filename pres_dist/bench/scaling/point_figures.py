"""Plots with a row or a line for each point of a scaling bench."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pres_dist.bench.scaling.measure import PARTS
from pres_dist.bench.scaling.schema import Point, ScalingReport
from pres_dist.report.figure import Figure, bars, make_figure

Values = Sequence[tuple[str, Callable[[Point], float | None]]]
"""Names of bars, each with a function for its value at a point."""


def point_figures(report: ScalingReport) -> list[Figure | None]:
    """Return all plots; None for a plot without data."""
    return [
        _stages(report),
        _bars(
            report,
            "bytes",
            "Bytes a step",
            "Megabytes of a training step, all workers; what is local stays in its process.",
            (
                ("state, remote", _mean_of("remote_bytes_per_step", 1e-6)),
                ("gradients, remote", _mean_of("gradient_bytes_per_step", 1e-6)),
                ("state, local", _mean_of("local_bytes_per_step", 1e-6)),
            ),
            "MB",
        ),
        _bars(
            report,
            "memory",
            "Peak memory of a worker",
            "Of the worker that took most: resident memory of the host, tensors on the device.",
            (
                ("host", _mean_of("peak_host_bytes", 2**-20)),
                ("device", _mean_of("peak_device_bytes", 2**-20)),
            ),
            "MiB",
            stacked=False,
        ),
        _balance(report),
        _staleness(report),
        _pending(report),
        _bars(
            report,
            "pres",
            "PRES gate and coherence",
            "In the best epoch: weight of the measured state in the correction, and cosine of a "
            "node's memory before and after its update.",
            (("gate", _mean_of("gate")), ("coherence", _mean_of("coherence"))),
            "",
            stacked=False,
        ),
    ]


def _points(report: ScalingReport) -> list[Point]:
    """Return the points of a scaling mode that have a finished run."""
    points = [point for point in report.points if point.done and point.modes]
    order = report.asked.launchers.index
    return sorted(points, key=lambda p: (order(p.launcher), p.workers, p.batch_size))


def _row(report: ScalingReport, point: Point) -> str:
    """Return a name that is short enough for phones: `2 on 1,600`, workers on temporal batch."""
    launcher = f", {point.launcher}" if len(report.asked.launchers) > 1 else ""
    return f"{point.workers} on {point.batch_size:,}{launcher}"


def _mean_of(name: str, scale: float = 1.0) -> Callable[[Point], float | None]:
    def of(point: Point) -> float | None:
        figure = point.figures[name]
        return None if figure is None else scale * figure.mean

    return of


def _bars(
    report: ScalingReport,
    name: str,
    title: str,
    caption: str,
    values: Values,
    unit: str,
    stacked: bool = True,
) -> Figure | None:
    """Plot a row of bars for each point, without bars that are zero everywhere."""
    points = _points(report)
    labels = [_row(report, point) for point in points]
    traces = [
        bars(told, labels, [of(point) for point in points], series, f" {unit}")
        for series, (told, of) in enumerate(values, start=1)
    ]
    shown = [trace for trace in traces if any(trace["x"])]
    return _in_rows(make_figure(name, title, caption, shown, unit, ""), len(labels), stacked)


def _in_rows(figure: Figure | None, rows: int, stacked: bool = True) -> Figure | None:
    """Make the bars horizontal, and set a height that fits the rows, axis and legend."""
    if figure is not None:
        mode = "stack" if stacked else "group"
        figure.layout.update(barmode=mode, bargap=0.25, height=max(290, 120 + 22 * rows))
        figure.layout["yaxis"].update(autorange="reversed", type="category")
    return figure


def _stages(report: ScalingReport) -> Figure | None:
    """Plot the seconds by stage, with a row for each worker of each point."""
    rows = [
        (f"{_row(report, point)} #{share.rank}", share)
        for point in _points(report)
        for share in point.shares
    ]
    labels = [label for label, _ in rows]
    traces = [
        bars(stage, labels, [1000 * s.seconds.get(stage, 0) for _, s in rows], series, " ms")
        for series, stage in enumerate(PARTS, start=1)
        if rows
    ]
    title, caption = (
        "Where each worker's step goes",
        "Milliseconds of a step, by worker; other: checkpoints.",
    )
    return _in_rows(make_figure("stages", title, caption, traces, "ms a step", ""), len(rows))


def _balance(report: ScalingReport) -> Figure | None:
    several = [p for p in _points(report) if p.workers > 1 and p.balance_by_range]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": _row(report, point),
            "x": list(range(1, len(point.balance_by_range) + 1)),
            "y": point.balance_by_range,
            "line": {"color": f"series-{series % 10 + 1}", "width": 2},
        }
        for series, point in enumerate(several)
    ]
    caption = (
        "Computing of the busiest worker over the mean, in consecutive tenths of an epoch's "
        "steps; 1 is even."
    )
    title = "Load balance over time ranges"
    return make_figure("balance", title, caption, traces, "tenth of the epoch", "", whole_x=True)


def _staleness(report: ScalingReport) -> Figure | None:
    def steps(lag: int) -> Callable[[Point], float | None]:
        return lambda point: point.staleness.get(str(lag), 0)

    lags = sorted({int(lag) for point in _points(report) for lag in point.staleness})
    figure = _bars(
        report,
        "staleness",
        "Staleness",
        "Training steps by the number of pushes that the memory they read had not seen.",
        [(f"{lag} pushes", steps(lag)) for lag in lags],
        "steps",
    )
    if figure is not None:
        figure.layout["showlegend"] = True
    return figure


def _pending(report: ScalingReport) -> Figure | None:
    figure = _bars(
        report,
        "pending",
        "Pending events of a batch",
        "Events of a node earlier in the same temporal batch, not yet in its memory.",
        (("mean", _mean_of("pending_events_mean")), ("largest", _mean_of("pending_events_max"))),
        "events",
        stacked=False,
    )
    if figure is not None:
        # Means below 10 and maxima in the hundreds are both visible only on a log axis.
        figure.layout["xaxis"].update(type="log", dtick=1)
    return figure
