"""Write report.html of a scaling bench."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pres_dist.bench.scaling.report_schema import Candidate, Fit, Interval, Point, ScalingReport
from pres_dist.bench.scaling.scaling_figures import scaling_figures
from pres_dist.bench.sweep_markdown import NONE
from pres_dist.report.html import sections, write_page
from pres_dist.report.result_tables import number

MARK = "°"
"""Mark after the number of workers of a point with more threads than cores."""
STANDS_IN = "CPU"
BUSY = 0.9
"""CPU seconds per second of a single worker below which other processes used its core."""
TITLES = {
    "strong": (
        "Strong scaling",
        "The same temporal batch for all workers together, and so the same results.",
    ),
    "weak": ("Weak scaling", "The temporal batch grows with the workers."),
}


class Column(NamedTuple):
    """A column of figures: head, name of the figure, decimals and factor."""

    head: str
    figure: str
    decimals: int
    scale: float = 1.0


SPEED = (
    Column("events/s", "events_per_second", 0),
    Column("by worker", "events_per_second_per_worker", 0),
)
QUALITY = (Column("test AP", "test_ap", 4),)
COST = (
    Column("in steps", "step_events_per_second", 0),
    Column("MRR", "test_mrr", 4),
    Column("CPU us/event", "cpu_microseconds_per_event", 0),
    Column("remote MB", "remote_bytes_per_step", 3, 1e-6),
    Column("local MB", "local_bytes_per_step", 3, 1e-6),
    Column("gradient MB", "gradient_bytes_per_step", 3, 1e-6),
    Column("host MiB", "peak_host_bytes", 0, 2**-20),
    Column("device MiB", "peak_device_bytes", 0, 2**-20),
    Column("imbalance", "imbalance", 3),
    Column("pending", "pending_events_mean", 2),
    Column("gate", "gate", 3),
    Column("coherence", "coherence", 3),
)


def write_scaling_page(path: Path, report: ScalingReport) -> bool:
    """Write the page; without plotly or jinja2, print a note and return False."""
    legend = (
        "Bars span the runs of a point; tables have 95% intervals of means. Names like 2 on 1,600 "
        "are workers on a temporal batch, and #0 is worker 0."
    )
    if any(point.oversubscribed for point in report.points):
        legend += " Hollow points had more threads than the machine has cores."
    chosen, candidates = report.reference.chosen, report.reference.candidates
    reference = "No one-worker run has finished, so that there is no efficiency."
    if chosen is not None:
        several = len(report.asked.launchers) > 1
        started = f", started by {chosen.launcher}" if several else ""
        reference = (
            f"Speed-up and efficiency are against the fastest of {len(candidates)} configurations "
            f"of one worker: {_setting(chosen)}{started}."
        )
    return write_page(
        path,
        "scaling.html.j2",
        {
            "name": f"{report.name}: scaling",
            "facts": _facts(report),
            "warnings": warnings(report),
            "reference": reference,
            "candidate_head": ["one worker", "launcher", "events/s", "test AP", ""],
            "candidates": [
                [
                    _setting(one),
                    one.launcher,
                    number(one.events_per_second, 0),
                    number(one.test_ap),
                    "reference" if one == chosen else "",
                ]
                for one in candidates
            ],
            "tables_of_points": [
                table for mode in report.asked.modes for table in _tables(report, mode)
            ],
            "legend": legend,
            "figures": scaling_figures(report),
            "fits": [fit_line(fit) for fit in report.fits],
            "failures": [
                (run.label, run.error or "no output")
                for run in report.runs
                if run.state == "failed"
            ],
            "config": sections(report.config, "run"),
            "asked": sections(report.asked.model_dump(mode="json"), "asked for"),
            "environment": sections(
                {**report.environment, "interconnect": report.interconnect.model_dump()}, "report"
            ),
        },
    )


def warnings(report: ScalingReport) -> list[str]:
    """Return the warnings to read before any figure."""
    lines = []
    points = [point for point in report.points if point.done]
    over = [point for point in points if point.oversubscribed]
    if over:
        lines.append(
            f"{MARK} more threads than usable cores: events/s and efficiency of these "
            "points say nothing; CPU time and bytes do. They are hollow in plots and in no fit."
        )
    # A single worker never waits for others, so that lost CPU time was that of other processes.
    alone = [p.figures["cpu_share"] for p in points if p.workers == 1 and p.stands_in]
    lowest = min((share.lowest for share in alone if share is not None), default=1.0)
    if lowest < BUSY:
        lines.append(
            f"The machine was busy: a worker alone got as little as {lowest:.0%} of a core. Repeat "
            "this on a quiet machine before you believe a time."
        )
    if any(point.stands_in for point in points):
        every = all(point.stands_in for point in points)
        which = "All points were" if every else f"Points marked {STANDS_IN} were"
        lines.append(f"{which} measured by CPU processes that stand in for GPUs.")
    missing = sum(point.planned - point.done - point.diverged for point in report.points)
    failed = sum(point.failed for point in report.points)
    diverged = sum(point.diverged for point in report.points)
    if missing or diverged:
        lines.append(
            f"{failed} runs failed, {diverged} diverged, {missing - failed} have not been run; "
            "figures are of the others."
        )
    return lines


def fit_line(fit: Fit) -> str:
    """Describe a fit in words."""
    title = {"amdahl": "Amdahl", "communication": "Communication"}[fit.kind]
    told = [f"{title}, {fit.launcher}:"]
    if "serial_share" in fit.parameters:
        told.append(f"serial share {fit.parameters['serial_share']:.1%} of one worker's time")
    if "latency_seconds" in fit.parameters:
        latency, rate = (fit.parameters[n] for n in ("latency_seconds", "bytes_per_second"))
        told.append(f"{1000 * latency:.2f} ms a step, and {rate / 1e6:,.0f} MB/s beyond")
    if fit.largest_residual is not None:
        told.append(f"(off by {fit.largest_residual:.1%} at most)")
    return " ".join([*told, fit.note or ""]).strip()


def _facts(report: ScalingReport) -> list[tuple[str, str]]:
    """Return the key facts of a bench."""
    asked, hardware = report.asked, report.environment["hardware"]
    devices = sorted({share.device for point in report.points for share in point.shares})
    commits = {run.git_commit for run in report.runs if run.git_commit}
    return [
        ("stream", str(report.config["data"]["stream"])),
        ("model", str(report.config["model"]["kind"])),
        ("temporal batch", f"{report.config['training']['batch_size']:,}"),
        ("workers", ", ".join(map(str, asked.workers))),
        ("launchers", ", ".join(asked.launchers)),
        ("seeds x repeats", f"{len(asked.seeds)} x {asked.repeats}"),
        ("devices", ", ".join(devices) or NONE),
        ("processor", f"{hardware['cpu']}, {hardware['usable_cores']} usable cores"),
        ("between workers", ", ".join(report.interconnect.backends) or NONE),
        ("revisions of the code", str(len(commits))),
        ("newest run", str(report.environment["date"]).replace("T", " ")),
        ("written", str(report.written["date"]).replace("T", " ")),
    ]


def _setting(candidate: Candidate) -> str:
    changed = [f"{name} {value}" for name, value in candidate.changes.items()]
    return ", ".join([f"batch {candidate.batch_size:,}", *changed])


def _tables(report: ScalingReport, mode: str) -> list[dict[str, Any]]:
    """Return the tables of speed and quality, then of cost."""
    title, caption = TITLES[mode]
    launchers = report.asked.launchers
    points = [point for point in report.points if mode in point.modes]
    points.sort(key=lambda point: (launchers.index(point.launcher), point.workers))
    cost = [column for column in COST if any(p.figures[column.figure] is not None for p in points)]
    speed_rows, cost_rows = [], []
    for point in points:
        marks = MARK * point.oversubscribed + f"\N{NO-BREAK SPACE}{STANDS_IN}" * point.stands_in
        named = [f"{point.workers}{marks}", *[point.launcher][: len(launchers) > 1]]
        named.append(f"{point.batch_size:,}")
        runs = f"{point.done} of {point.planned}"
        runs += f", {point.diverged} diverged" if point.diverged else ""
        runs += f", {point.failed} failed" if point.failed else ""
        ratios = [measured(value, 2) for value in (point.speed_up, point.efficiency)]
        speed = [named, [runs], _cells(point, SPEED), ratios, _cells(point, QUALITY)]
        times = []
        for target in report.targets:
            # The mean over the runs that reach the target, and their number if not all do.
            text, reached = measured(point.time_to.get(target), 1), point.reached.get(target, 0)
            some = reached not in (0, point.done)
            times.append(f"{text} ({reached} of {point.done})" if some else text)
        speed_rows.append([*chain(*speed), *times])
        cost_rows.append([*named, *_cells(point, cost, with_interval=False)])
    head = ["workers", *["launcher"][: len(launchers) > 1], "batch"]
    return [
        {
            "title": title,
            "caption": caption,
            "head": [
                *(*head, "runs", *(column.head for column in SPEED), "speed-up", "efficiency"),
                *(column.head for column in QUALITY),
                *(f"s to AP {ap:.4f}" for ap in report.targets.values()),
            ],
            "rows": speed_rows,
        },
        {
            "title": None,
            "caption": "Events/s in steps alone; MB a step of all workers; memory of the one that "
            "took most.",
            "head": [*head, *(column.head for column in cost)],
            "rows": cost_rows,
        },
    ]


def _cells(point: Point, columns: Sequence[Column], with_interval: bool = True) -> list[str]:
    return [
        measured(point.figures[column.figure], column.decimals, column.scale, with_interval)
        for column in columns
    ]


def measured(
    value: Interval | None, decimals: int, scale: float = 1.0, with_interval: bool = True
) -> str:
    """Format as `12,354 ± 120`; without the interval if there is a single value."""
    if value is None:
        return NONE
    text = number(value.mean * scale, decimals)
    if value.half is None or not with_interval:
        return text
    return f"{text} ± {number(value.half * scale, decimals)}"
