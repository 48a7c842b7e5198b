"""Plots of a scaling bench: figures against workers, fits, and plots of each point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pres_dist.bench.scaling.report_schema import Fit, Interval, Point, ScalingReport
from pres_dist.bench.scaling.run_figures import PARTS
from pres_dist.report.figure import Figure, bars, make_figure

Line = tuple[str, list[Point]]
"""Name and points of a scaling mode and launcher, by workers."""
Bar = tuple[str, Callable[[Point], float | None]]
"""Name of a bar, and its value at a point."""


class Plot(NamedTuple):
    """A plot of a figure against the number of workers."""

    name: str
    title: str
    caption: str
    unit: str
    value: Callable[[Point], Interval | None]
    from_zero: bool = True


def _figure(name: str) -> Callable[[Point], Interval | None]:
    return lambda point: point.figures[name]


def _mean(name: str, scale: float = 1.0) -> Callable[[Point], float | None]:
    def value(point: Point) -> float | None:
        figure = point.figures[name]
        return None if figure is None else scale * figure.mean

    return value


RATE = Plot(
    "rate",
    "Events/s",
    "Training events a second, evaluation not counted; dashed: the fastest one-worker "
    "configuration times workers.",
    "events/s",
    _figure("events_per_second"),
)
PLOTS = (
    Plot(
        "per-worker",
        "Events/s of each worker",
        "Training events a second by worker; level is ideal.",
        "events/s",
        _figure("events_per_second_per_worker"),
    ),
    Plot(
        "efficiency",
        "Efficiency",
        "Events/s over workers times those of the fastest one-worker configuration.",
        "efficiency",
        lambda point: point.efficiency,
    ),
    Plot(
        "cpu",
        "CPU time an event",
        "Of all workers together; level is ideal, whatever the number of cores.",
        "us",
        _figure("cpu_microseconds_per_event"),
    ),
    Plot(
        "ap",
        "Test AP",
        "At every number of workers; mean over seeds.",
        "AP",
        _figure("test_ap"),
        from_zero=False,
    ),
)


def scaling_figures(report: ScalingReport) -> list[Figure]:
    """Return the plots that the report has data for."""
    lines = _lines(report)
    order = report.asked.launchers.index
    points = [point for point in report.points if point.done and point.modes]
    points.sort(key=lambda point: (order(point.launcher), point.workers, point.batch_size))
    # Row names are short enough for phones: `2 on 1,600`, workers on temporal batch.
    rows = {
        f"{point.workers} on {point.batch_size:,}"
        + (f", {point.launcher}" if len(report.asked.launchers) > 1 else ""): point
        for point in points
    }
    made = [
        _with_ideal(report, _against_workers(lines, RATE)),
        *(_against_workers(lines, plot) for plot in PLOTS),
        *(
            _time_to(lines, place, target, ap)
            for place, (target, ap) in enumerate(report.targets.items())
        ),
        *_point_figures(rows),
        *(_communication(fit) for fit in report.fits if fit.kind == "communication"),
    ]
    return [figure for figure in made if figure is not None]


def _lines(report: ScalingReport) -> list[Line]:
    asked = report.asked
    lines = [
        (
            f"{mode}, {launcher}" if len(asked.launchers) > 1 else str(mode),
            [
                point
                for point in sorted(report.points, key=lambda point: point.workers)
                if mode in point.modes and point.launcher == launcher and point.done
            ],
        )
        for launcher in asked.launchers
        for mode in asked.modes
    ]
    return [(name, points) for name, points in lines if points]


def _against_workers(lines: Sequence[Line], plot: Plot) -> Figure | None:
    """Plot lines; points with more threads than cores are hollow."""
    traces: list[dict[str, Any]] = []
    for series, (name, points) in enumerate(lines, start=1):
        values = [(point, value) for point in points if (value := plot.value(point)) is not None]
        if not values:
            continue
        color = f"series-{series}"
        bars = {
            "array": [value.highest - value.mean for _, value in values],
            "arrayminus": [value.mean - value.lowest for _, value in values],
            "symmetric": False,
            "thickness": 1,
            "width": 4,
            "color": color,
        }
        symbols = ["circle-open" if p.oversubscribed else "circle" for p, _ in values]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": [point.workers for point, _ in values],
                "y": [value.mean for _, value in values],
                "error_y": bars,
                "text": [_hover(point, value) for point, value in values],
                "hovertemplate": f"{name}: %{{y:,.4~r}}<br>%{{text}}<extra></extra>",
                "line": {"color": color, "width": 2},
                "marker": {"size": 9, "color": color, "symbol": symbols},
            }
        )
    figure = make_figure(plot.name, plot.title, plot.caption, traces, "workers", plot.unit)
    if figure is not None:
        counts = sorted({point.workers for _, points in lines for point in points})
        figure.layout["xaxis"].update(tickvals=counts, ticktext=[str(count) for count in counts])
        if plot.from_zero:
            figure.layout["yaxis"]["rangemode"] = "tozero"
    return figure


def _hover(point: Point, value: Interval) -> str:
    runs = f"{value.count} run{'s'[: value.count > 1]}"
    if value.half is not None:
        runs += f", 95% interval ± {value.half:,.4g}"
    marked = ", more threads than cores" if point.oversubscribed else ""
    where = f"batch {point.batch_size:,}, {point.launcher}"
    workers = f"{point.workers} worker{'s'[: point.workers > 1]}"
    return f"{workers}, {where}<br>{runs}{marked}"


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


def _time_to(lines: Sequence[Line], place: int, target: str, ap: float) -> Figure | None:
    plot = Plot(
        f"time-{place}",
        f"Seconds to validation AP {ap:.4f}",
        f"Seconds of training until an epoch ended with it (target {target}); runs that never did "
        "are left out.",
        "s",
        lambda point: point.time_to.get(target),
    )
    return _against_workers(lines, plot)


def _communication(fit: Fit) -> Figure | None:
    seen = sorted(fit.observations, key=lambda one: one.x)
    common = {
        "type": "scatter",
        "x": [one.x / 1e6 for one in seen],
        "text": [f"{one.workers} workers, batch {one.batch_size:,}" for one in seen],
        "hovertemplate": "%{y:.2f} ms<br>%{text}<extra></extra>",
    }
    traces = [
        {
            **common,
            "mode": "markers",
            "name": "measured",
            "y": [1000 * one.measured for one in seen],
            "marker": {"color": "series-1", "size": 9},
        },
        {
            **common,
            "mode": "lines",
            "name": "latency + bytes / bandwidth",
            "y": [1000 * one.fitted for one in seen],
            "line": {"color": "muted", "width": 1, "dash": "dash"},
        },
    ]
    return make_figure(
        f"communication-{fit.launcher}",
        f"Communication, {fit.launcher}",
        "Pull, push and all-reduce of a worker in a step against the bytes it moves.",
        traces if seen else [],
        "MB a worker and step",
        "ms",
    )


def _point_figures(rows: dict[str, Point]) -> list[Figure | None]:
    """Return the plots with a row or a line for each point."""
    lags = sorted({int(lag) for point in rows.values() for lag in point.staleness})
    staleness = _bars(
        rows,
        "staleness",
        "Staleness",
        "Training steps by the number of pushes that the memory they read had not seen.",
        [(f"{lag} pushes", _steps_at(lag)) for lag in lags],
        "steps",
    )
    if staleness is not None:
        staleness.layout["showlegend"] = True
    pending = _bars(
        rows,
        "pending",
        "Pending events of a batch",
        "Events of a node earlier in the same temporal batch, not yet in its memory.",
        [("mean", _mean("pending_events_mean")), ("largest", _mean("pending_events_max"))],
        "events",
        stacked=False,
    )
    if pending is not None:
        # Means below 10 and maxima in the hundreds are both visible only on a log axis.
        pending.layout["xaxis"].update(type="log", dtick=1)
    return [
        _stages(rows),
        _bars(
            rows,
            "bytes",
            "Bytes a step",
            "Megabytes of a training step, all workers; what is local stays in its process.",
            [
                ("state, remote", _mean("remote_bytes_per_step", 1e-6)),
                ("gradients, remote", _mean("gradient_bytes_per_step", 1e-6)),
                ("state, local", _mean("local_bytes_per_step", 1e-6)),
            ],
            "MB",
        ),
        _bars(
            rows,
            "memory",
            "Peak memory of a worker",
            "Of the worker that took most: resident memory of the host, tensors on the device.",
            [
                ("host", _mean("peak_host_bytes", 2**-20)),
                ("device", _mean("peak_device_bytes", 2**-20)),
            ],
            "MiB",
            stacked=False,
        ),
        _balance(rows),
        staleness,
        pending,
        _bars(
            rows,
            "pres",
            "PRES gate and coherence",
            "In the best epoch: weight of the measured state in the correction, and cosine of a "
            "node's memory before and after its update.",
            [("gate", _mean("gate")), ("coherence", _mean("coherence"))],
            "",
            stacked=False,
        ),
    ]


def _steps_at(lag: int) -> Callable[[Point], float | None]:
    return lambda point: point.staleness.get(str(lag), 0)


def _bars(
    rows: dict[str, Point],
    name: str,
    title: str,
    caption: str,
    values: Sequence[Bar],
    unit: str,
    stacked: bool = True,
) -> Figure | None:
    """Plot a row of bars for each point, without bars that are zero everywhere."""
    traces = [
        bars(told, list(rows), [value(point) for point in rows.values()], series, f" {unit}")
        for series, (told, value) in enumerate(values, start=1)
    ]
    shown = [trace for trace in traces if any(trace["x"])]
    return _in_rows(make_figure(name, title, caption, shown, unit, ""), len(rows), stacked)


def _in_rows(figure: Figure | None, num_rows: int, stacked: bool = True) -> Figure | None:
    """Make the bars horizontal, and set a height that fits the rows, axis and legend."""
    if figure is not None:
        mode = "stack" if stacked else "group"
        figure.layout.update(barmode=mode, bargap=0.25, height=max(290, 120 + 22 * num_rows))
        figure.layout["yaxis"].update(autorange="reversed", type="category")
    return figure


def _stages(rows: dict[str, Point]) -> Figure | None:
    """Plot the seconds by stage, with a row for each worker of each point."""
    workers = {
        f"{row} #{share.rank}": share for row, point in rows.items() for share in point.shares
    }
    traces = [
        bars(
            stage,
            list(workers),
            [1000 * share.seconds.get(stage, 0) for share in workers.values()],
            series,
            " ms",
        )
        for series, stage in enumerate(PARTS, start=1)
        if workers
    ]
    title = "Where each worker's step goes"
    caption = "Milliseconds of a step, by worker; other: checkpoints."
    figure = make_figure("stages", title, caption, traces, "ms a step", "")
    return _in_rows(figure, len(workers))


def _balance(rows: dict[str, Point]) -> Figure | None:
    several = {row: p for row, p in rows.items() if p.workers > 1 and p.balance_by_range}
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": row,
            "x": list(range(1, len(point.balance_by_range) + 1)),
            "y": point.balance_by_range,
            "line": {"color": f"series-{series % 10 + 1}", "width": 2},
        }
        for series, (row, point) in enumerate(several.items())
    ]
    caption = (
        "Computing of the busiest worker over the mean, in consecutive tenths of an epoch's "
        "steps; 1 is even."
    )
    title = "Load balance over time ranges"
    return make_figure("balance", title, caption, traces, "tenth of the epoch", "", whole_x=True)
