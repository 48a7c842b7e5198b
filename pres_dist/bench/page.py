"""Write report.html: a sweep on one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pres_dist.bench.cells import CellResult, Results
from pres_dist.bench.figures import sweep_figures
from pres_dist.bench.goals import goal_lines, tolerated
from pres_dist.bench.markdown import batch, interval, plain, seconds_to, tuned
from pres_dist.bench.plan import Sweep
from pres_dist.bench.sweep import Outcome
from pres_dist.report.html import sections, write_page

COLUMNS = (
    ("AUC", "auc", 4),
    ("best epoch", "best_epoch", 1),
    ("epochs", "epochs", 0),
    ("steps", "optimizer_steps", 0),
    ("s / epoch", "seconds_per_epoch", 1),
    ("events / s", "events_per_second", 0),
    ("CPU us / event", "cpu_microseconds_per_event", 0),
    ("gate", "gate", 3),
    ("coherence", "coherence", 3),
    ("prediction / persistence", "prediction_ratio", 2),
    ("pending", "pending_events", 1),
)
"""Heading, figure and decimals of the columns after accuracy."""


def write_sweep_page(
    path: Path,
    sweep: Sweep,
    results: Results,
    outcomes: Sequence[Outcome],
    content: Mapping[str, Any],
) -> bool:
    """Write the page; without plotly or jinja2, print a note and return False."""
    targets = list(dict.fromkeys(name for result in results.values() for name in result.reached))
    streams = [
        {
            "name": stream,
            "figures": sweep_figures(sweep, results, outcomes, stream),
            "rows": [
                _row(result, targets, len(sweep.grid) > 1)
                for cell, result in results.items()
                if cell.stream == stream
            ],
        }
        for stream in sweep.config.streams
        if any(cell.stream == stream for cell in results)
    ]
    return write_page(
        path,
        "sweep.html.j2",
        {
            "name": sweep.config.name,
            "facts": _facts(sweep, results, content),
            "goals": goal_lines(sweep, results),
            "baseline": sweep.config.baseline,
            "base_batch": f"{sweep.base_batch:,}",
            "tolerance": sweep.config.tolerance,
            "tolerated": [
                [
                    row.stream,
                    row.method,
                    *map(batch, (row.of_own_base, row.of_baseline, row.of_best)),
                ]
                for row in tolerated(sweep, results)
            ],
            "head": _head(sweep, targets),
            "streams": streams,
            "figures": [figure for stream in streams for figure in stream["figures"]],
            "settings": sections(content["sweep"], "sweep"),
            "environment": sections(content["environment"], "report"),
        },
    )


def _facts(sweep: Sweep, results: Results, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the key facts of a sweep."""
    planned = len(sweep.cells) * len(sweep.config.seeds)
    done = sum(result.done + result.diverged for result in results.values())
    commits = {run["record"]["git_commit"] for run in content["runs"] if run["record"]}
    return [
        ("runs in the table", f"{done} of {planned}"),
        ("diverged", str(sum(result.diverged for result in results.values()))),
        ("seeds", ", ".join(map(str, sweep.config.seeds))),
        ("revisions of the code", str(len(commits))),
        ("date", str(content["environment"]["date"]).replace("T", " ")),
    ]


def _head(sweep: Sweep, targets: Sequence[str]) -> list[str]:
    front = ["temporal batch", "method", "seeds", "AP", "MRR", "difference", "verdict"]
    times = [f"CPU s to {target}" for target in targets]
    return [*front, *(head for head, _, _ in COLUMNS), *times, *["tuned"][: len(sweep.grid) > 1]]


def _row(result: CellResult, targets: Sequence[str], with_tuning: bool) -> list[str]:
    figures = result.figures
    seeds = f"{result.done} of {result.planned}"
    if result.diverged:
        seeds += f", {result.diverged} diverged"
    return [
        f"{result.cell.batch_size:,}",
        result.cell.method,
        seeds,
        interval(figures["ap"]),
        interval(figures["mrr"]),
        interval(result.difference, signed=True),
        result.verdict,
        *(plain(figures[name], decimals) for _, name, decimals in COLUMNS),
        *(seconds_to(result, target) for target in targets),
        *([tuned(result.tuned)] if with_tuning else []),
    ]
