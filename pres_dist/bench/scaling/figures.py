"""Plots of a scaling bench: figures against workers, fits, and plots of each point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pres_dist.bench.scaling.config import Launcher, Mode
from pres_dist.bench.scaling.point_figures import point_figures
from pres_dist.bench.scaling.schema import Fit, Interval, Point, ScalingReport
from pres_dist.report.figure import Figure, make_figure

Of = Callable[[Point], Interval | None]
Line = tuple[Mode, Launcher]


def scaling_figures(report: ScalingReport) -> list[Figure]:
    """Return the plots that the report has data for."""
    made = [
        _with_ideal(report, _rate(report)),
        _against_workers(
            report,
            "per-worker",
            "Events/s of each worker",
            "Training events a second by worker; level is ideal.",
            "events/s",
            _figure("events_per_second_per_worker"),
        ),
        _against_workers(
            report,
            "efficiency",
            "Efficiency",
            "Events/s over workers times those of the fastest one-worker configuration.",
            "efficiency",
            lambda point: point.efficiency,
        ),
        _against_workers(
            report,
            "cpu",
            "CPU time an event",
            "Of all workers together; level is ideal, whatever the number of cores.",
            "us",
            _figure("cpu_microseconds_per_event"),
        ),
        _against_workers(
            report,
            "ap",
            "Test AP",
            "At every number of workers; mean over seeds.",
            "AP",
            _figure("test_ap"),
            from_zero=False,
        ),
        *(_time_to(report, name, ap) for name, ap in report.targets.items()),
        *point_figures(report),
        *(_communication(fit) for fit in report.fits if fit.kind == "communication"),
    ]
    return [figure for figure in made if figure is not None]


def _figure(name: str) -> Of:
    return lambda point: point.figures[name]


def _lines(report: ScalingReport) -> dict[Line, list[Point]]:
    """Return the points of each scaling mode and launcher, by workers."""
    asked = report.asked
    lines = {
        (mode, launcher): [
            point
            for point in report.points
            if mode in point.modes and point.launcher == launcher and point.done
        ]
        for launcher in asked.launchers
        for mode in asked.modes
    }
    return {
        line: sorted(points, key=lambda point: point.workers)
        for line, points in lines.items()
        if points
    }


def _name(report: ScalingReport, line: Line) -> str:
    mode, launcher = line
    return f"{mode}, {launcher}" if len(report.asked.launchers) > 1 else mode


def _against_workers(
    report: ScalingReport,
    name: str,
    title: str,
    caption: str,
    unit: str,
    of: Of,
    from_zero: bool = True,
) -> Figure | None:
    lines = _lines(report)
    traces = [
        trace
        for series, (line, points) in enumerate(lines.items(), start=1)
        for trace in _line(_name(report, line), points, of, series)
    ]
    figure = make_figure(name, title, caption, traces, "workers", unit)
    if figure is not None:
        counts = sorted({point.workers for points in lines.values() for point in points})
        figure.layout["xaxis"].update(tickvals=counts, ticktext=[str(count) for count in counts])
        if from_zero:
            figure.layout["yaxis"]["rangemode"] = "tozero"
    return figure


def _line(name: str, points: Sequence[Point], of: Of, series: int) -> list[dict[str, Any]]:
    """Return the traces of a line; points with more threads than cores are hollow."""
    known = [(point, value) for point in points if (value := of(point)) is not None]
    if not known:
        return []
    color = f"series-{series}"
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": [point.workers for point, _ in known],
            "y": [value.mean for _, value in known],
            "error_y": {
                "array": [value.highest - value.mean for _, value in known],
                "arrayminus": [value.mean - value.lowest for _, value in known],
                "symmetric": False,
                "thickness": 1,
                "width": 4,
                "color": color,
            },
            "text": [_hover(point, value) for point, value in known],
            "hovertemplate": f"{name}: %{{y:,.4~r}}<br>%{{text}}<extra></extra>",
            "line": {"color": color, "width": 2},
            "marker": {
                "size": 9,
                "color": color,
                "symbol": ["circle-open" if p.oversubscribed else "circle" for p, _ in known],
            },
        }
    ]


def _hover(point: Point, value: Interval) -> str:
    runs = f"{value.count} run{'s'[: value.count > 1]}"
    if value.half is not None:
        runs += f", 95% interval ± {value.half:,.4g}"
    marked = ", more threads than cores" if point.oversubscribed else ""
    where = f"batch {point.batch_size:,}, {point.launcher}"
    workers = f"{point.workers} worker{'s'[: point.workers > 1]}"
    return f"{workers}, {where}<br>{runs}{marked}"


def _rate(report: ScalingReport) -> Figure | None:
    return _against_workers(
        report,
        "rate",
        "Events/s",
        "Training events a second, evaluation not counted; dashed: the fastest one-worker "
        "configuration times workers.",
        "events/s",
        _figure("events_per_second"),
    )


def _with_ideal(report: ScalingReport, figure: Figure | None) -> Figure | None:
    chosen = report.reference.chosen
    if figure is None or chosen is None or chosen.events_per_second is None:
        return figure
    counts = sorted({1, *(point.workers for point in report.points)})
    figure.traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "ideal",
            "x": counts,
            "y": [count * chosen.events_per_second for count in counts],
            "hovertemplate": "ideal: %{y:,.4~r}<extra></extra>",
            "line": {"color": "muted", "width": 1, "dash": "dash"},
        }
    )
    figure.layout["showlegend"] = True
    return figure


def _time_to(report: ScalingReport, name: str, ap: float) -> Figure | None:
    place = list(report.targets).index(name)
    return _against_workers(
        report,
        f"time-{place}",
        f"Seconds to validation AP {ap:.4f}",
        f"Seconds of training until an epoch ended with it (target {name}); runs that never did "
        "are left out.",
        "s",
        lambda point: point.time_to.get(name),
    )


def _communication(fit: Fit) -> Figure | None:
    seen = sorted(fit.observations, key=lambda one: one.x)
    x = [one.x / 1e6 for one in seen]
    labels = [f"{one.workers} workers, batch {one.batch_size:,}" for one in seen]
    common = {"type": "scatter", "x": x, "text": labels}
    hover = "%{y:.2f} ms<br>%{text}<extra></extra>"
    traces = [
        {
            **common,
            "mode": "markers",
            "name": "measured",
            "y": [1000 * one.measured for one in seen],
            "hovertemplate": hover,
            "marker": {"color": "series-1", "size": 9},
        },
        {
            **common,
            "mode": "lines",
            "name": "latency + bytes / bandwidth",
            "y": [1000 * one.fitted for one in seen],
            "hovertemplate": hover,
            "line": {"color": "muted", "width": 1, "dash": "dash"},
        },
    ]
    caption = "Pull, push and all-reduce of a worker in a step against the bytes it moves."
    return make_figure(
        f"communication-{fit.launcher}",
        f"Communication, {fit.launcher}",
        caption,
        traces if seen else [],
        "MB a worker and step",
        "ms",
    )
