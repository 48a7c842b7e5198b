"""report.html of a scaling bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pres_dist.bench.markdown import NONE
from pres_dist.bench.scaling.figures import scaling_figures
from pres_dist.bench.scaling.mllog import namespace
from pres_dist.bench.scaling.schema import Candidate, Fit, Interval, Point, ScalingReport
from pres_dist.report.html import sections, write_page
from pres_dist.report.progress import number

MARK = "°"
"""Behind the number of workers of a point with more threads than cores."""
STANDS_IN = "CPU"
TITLES = {
    "strong": (
        "Strong scaling",
        "The same temporal batch for all workers together, and so the same results.",
    ),
    "weak": ("Weak scaling", "The temporal batch grows with the workers."),
}
SPEED = (
    ("events/s", "events_per_second", 0, 1.0),
    ("by worker", "events_per_second_per_worker", 0, 1.0),
)
COLUMNS = (
    ("CPU us / event", "cpu_microseconds_per_event", 0, 1.0),
    ("test AP", "test_ap", 4, 1.0),
    ("MRR", "test_mrr", 4, 1.0),
)
MORE = (
    ("MB / step remote", "remote_bytes_per_step", 3, 1e-6),
    ("local", "local_bytes_per_step", 3, 1e-6),
    ("gradients", "gradient_bytes_per_step", 3, 1e-6),
    ("host MiB", "peak_host_bytes", 0, 2**-20),
    ("device MiB", "peak_device_bytes", 0, 2**-20),
    ("imbalance", "imbalance", 3, 1.0),
    ("pending", "pending_events_mean", 2, 1.0),
    ("gate", "gate", 3, 1.0),
    ("coherence", "coherence", 3, 1.0),
)
"""Head, figure, decimals and scale of columns."""


def write_scaling_page(path: Path, report: ScalingReport) -> bool:
    """Write the page; False, with a note, without plotly or jinja2."""
    return write_page(
        path,
        "scaling.html.j2",
        {
            "name": f"{report.name}: scaling",
            "facts": _facts(report),
            "warnings": warnings(report),
            "reference": _reference(report),
            "candidate_head": ["one worker", "launcher", "events/s", "test AP", ""],
            "candidates": [_candidate(one, report) for one in report.reference.candidates],
            "tables_of_points": [_table(report, mode) for mode in report.asked.modes],
            "legend": _legend(report),
            "figures": scaling_figures(report),
            "fits": [fit_line(fit) for fit in report.fits],
            "failures": [
                (namespace(run), run.error or "no output")
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
    """What a reader must know before reading any figure."""
    lines = []
    points = [point for point in report.points if point.done]
    over = [point for point in points if point.oversubscribed]
    if over:
        cores = report.environment["hardware"]["usable_cores"]
        lines.append(
            f"{MARK} more threads than the {cores} usable cores: events/s and efficiency of these "
            "points say nothing; CPU time and bytes do. They are hollow in plots and in no fit."
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
    """A fit in words."""
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
    """What identifies a bench at a glance."""
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
        ("date", str(report.environment["date"]).replace("T", " ")),
    ]


def _reference(report: ScalingReport) -> str:
    chosen = report.reference.chosen
    if chosen is None:
        return "No one-worker run has finished, so that there is no efficiency."
    return (
        f"Speed-up and efficiency are against the fastest of "
        f"{len(report.reference.candidates)} configurations of one worker: {_setting(chosen)}."
    )


def _setting(candidate: Candidate) -> str:
    changed = [f"{name} {value}" for name, value in candidate.changes.items()]
    return ", ".join([f"batch {candidate.batch_size:,}", *changed])


def _candidate(candidate: Candidate, report: ScalingReport) -> list[str]:
    return [
        _setting(candidate),
        candidate.launcher,
        number(candidate.events_per_second, 0),
        number(candidate.test_ap),
        "reference" if candidate == report.reference.chosen else "",
    ]


def _legend(report: ScalingReport) -> str:
    told = "Bars are 95% intervals over runs."
    if any(point.oversubscribed for point in report.points):
        told += " Hollow points had more threads than the machine has cores."
    return told


def _table(report: ScalingReport, mode: str) -> dict[str, Any]:
    title, caption = TITLES[mode]
    points = [point for point in report.points if mode in point.modes]
    points.sort(key=lambda point: (point.launcher, point.workers))
    times = [f"s to AP {ap:.4f}" for ap in report.targets.values()]
    head = ["workers", "launcher", "batch", "runs", *(column[0] for column in SPEED)]
    head += ["speed-up", "efficiency", *(column[0] for column in COLUMNS), *times]
    head += [column[0] for column in MORE]
    rows = [_row(point, report.targets) for point in points]
    return {"title": title, "caption": caption, "head": head, "rows": rows}


def _row(point: Point, targets: Mapping[str, float]) -> list[str]:
    marks = MARK * point.oversubscribed + f" {STANDS_IN}" * point.stands_in
    runs = f"{point.done} of {point.planned}"
    runs += f", {point.diverged} diverged" if point.diverged else ""
    runs += f", {point.failed} failed" if point.failed else ""
    return [
        f"{point.workers}{marks}",
        point.launcher,
        f"{point.batch_size:,}",
        runs,
        *_cells(point, SPEED),
        measured(point.speed_up, 2),
        measured(point.efficiency, 2),
        *_cells(point, COLUMNS),
        *(_time_to(point, name) for name in targets),
        *(_cells(point, MORE, with_interval=False)),
    ]


def _cells(
    point: Point, columns: Sequence[tuple[str, str, int, float]], with_interval: bool = True
) -> list[str]:
    return [
        measured(point.figures[name], decimals, scale, with_interval)
        for _, name, decimals, scale in columns
    ]


def measured(
    value: Interval | None, decimals: int, scale: float = 1.0, with_interval: bool = True
) -> str:
    """`12,354 ± 120`; without the interval where there is one value."""
    if value is None:
        return NONE
    text = number(value.mean * scale, decimals)
    if value.half is None or not with_interval:
        return text
    return f"{text} ± {number(value.half * scale, decimals)}"


def _time_to(point: Point, target: str) -> str:
    """Mean over the runs that reach it, and how many do where not all."""
    text, reached = measured(point.time_to.get(target), 1), point.reached.get(target, 0)
    return text if reached in (0, point.done) else f"{text} ({reached} of {point.done})"
