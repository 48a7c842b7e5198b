"""Write the reports of a sweep: complete JSON, Markdown tables, and an HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.run_records import Record
from pres_dist.bench.sweep_cells import CellResult, CellResults, cell_results
from pres_dist.bench.sweep_figures import sweep_figures
from pres_dist.bench.sweep_goals import goal_lines, tolerated
from pres_dist.bench.sweep_markdown import batch, interval, markdown, plain, seconds_to, tuned
from pres_dist.bench.sweep_runs import Outcome, outcomes
from pres_dist.bench.sweep_spec import SweepSpec
from pres_dist.errors import ConfigError
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment
from pres_dist.report.html import sections, write_page

JSON, MARKDOWN, HTML = "report.json", "report.md", "report.html"
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
"""Heading, figure and decimals of the columns of the page after accuracy."""


def write_reports(sweep: SweepSpec, ledger: Ledger) -> list[Path]:
    """Write report.json, report.md and report.html from the sweep's folder.

    Returns:
        Paths of the written files: report.html only with plotly and jinja2.
    """
    rows = outcomes(sweep, ledger)
    results = cell_results(sweep, rows)
    content = report_content(sweep, rows, results)
    paths = [ledger.folder / JSON, ledger.folder / MARKDOWN]
    write_atomically(paths[0], json.dumps(content, indent=1) + "\n")
    write_atomically(paths[1], markdown(sweep, results))
    page = ledger.folder / HTML
    written = write_page(page, "sweep.html.j2", _page(sweep, results, rows, content))
    return [*paths, page] if written else paths


def known_runs(paths: Iterable[Path]) -> dict[str, Record]:
    """Read the finished runs from report.json files of other sweeps, by fingerprint.

    Raises:
        ConfigError: A file is not a sweep's report.json.
    """
    known: dict[str, Record] = {}
    for path in paths:
        try:
            runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
            known |= {run["fingerprint"]: run["record"] for run in runs if run["record"]}
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{path}: --known expects the {JSON} of a sweep; this file is not one"
            ) from None
    return known


def report_content(
    sweep: SweepSpec, rows: Sequence[Outcome], results: CellResults
) -> dict[str, Any]:
    """Return the content of report.json."""
    return {
        "sweep": sweep.config.model_dump(mode="json"),
        "environment": describe_environment(sweep.config.seeds[0]),
        "goals": goal_lines(sweep, results),
        "tolerated": [asdict(row) for row in tolerated(sweep, results)],
        "cells": [asdict(result) for result in results.values()],
        "runs": [
            {
                **asdict(row.task.cell),
                "seed": row.task.seed,
                "fingerprint": row.task.fingerprint,
                "tuned": dict(row.task.tuned),
                "chosen": row.chosen,
                "state": row.state,
                "record": row.record,
            }
            for row in rows
            if row.state != "new"
        ],
    }


def _page(
    sweep: SweepSpec,
    results: CellResults,
    outcomes: Sequence[Outcome],
    content: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of report.html."""
    targets = list(dict.fromkeys(name for result in results.values() for name in result.reached))
    head = ["temporal batch", "method", "seeds", "AP", "MRR", "difference", "verdict"]
    head += [*(name for name, _, _ in COLUMNS), *(f"CPU s to {target}" for target in targets)]
    with_tuning = len(sweep.grid) > 1
    streams: list[dict[str, Any]] = [
        {
            "name": stream,
            "figures": sweep_figures(sweep, results, outcomes, stream),
            "rows": [
                _row(result, targets, with_tuning)
                for cell, result in results.items()
                if cell.stream == stream
            ],
        }
        for stream in sweep.config.streams
        if any(cell.stream == stream for cell in results)
    ]
    done = sum(result.done + result.diverged for result in results.values())
    commits = {run["record"]["git_commit"] for run in content["runs"] if run["record"]}
    return {
        "name": sweep.config.name,
        "facts": [
            ("runs in the table", f"{done} of {len(sweep.cells) * len(sweep.config.seeds)}"),
            ("diverged", str(sum(result.diverged for result in results.values()))),
            ("seeds", ", ".join(map(str, sweep.config.seeds))),
            ("revisions of the code", str(len(commits))),
            ("date", str(content["environment"]["date"]).replace("T", " ")),
        ],
        "goals": goal_lines(sweep, results),
        "baseline": sweep.config.baseline,
        "base_batch": f"{sweep.base_batch:,}",
        "tolerance": sweep.config.tolerance,
        "tolerated": [
            [row.stream, row.method, *map(batch, row.batches)] for row in tolerated(sweep, results)
        ],
        "head": [*head, "tuned"] if with_tuning else head,
        "streams": streams,
        "figures": [figure for stream in streams for figure in stream["figures"]],
        "settings": sections(content["sweep"], "sweep"),
        "environment": sections(content["environment"], "report"),
    }


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
