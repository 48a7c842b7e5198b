"""The reports of a sweep: JSON with everything, Markdown tables, and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pres_dist.bench.cells import Results, cell_results
from pres_dist.bench.goals import goal_lines, tolerated
from pres_dist.bench.ledger import Ledger
from pres_dist.bench.markdown import markdown
from pres_dist.bench.page import write_sweep_page
from pres_dist.bench.plan import Sweep
from pres_dist.bench.sweep import Outcome, outcomes
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment

JSON, MARKDOWN, HTML = "report.json", "report.md", "report.html"


def write_reports(sweep: Sweep, ledger: Ledger) -> list[Path]:
    """Write report.json, report.md and report.html from what the sweep's folder holds.

    Returns:
        What was written: the page needs plotly and jinja2.
    """
    rows = outcomes(sweep, ledger)
    results = cell_results(sweep, rows)
    content = report_content(sweep, rows, results)
    paths = [ledger.folder / JSON, ledger.folder / MARKDOWN]
    write_atomically(paths[0], json.dumps(content, indent=1) + "\n")
    write_atomically(paths[1], markdown(sweep, results))
    page = ledger.folder / HTML
    return [*paths, page] if write_sweep_page(page, sweep, results, rows, content) else paths


def report_content(sweep: Sweep, rows: Sequence[Outcome], results: Results) -> dict[str, Any]:
    """Everything, as JSON holds it."""
    return {
        "sweep": sweep.config.model_dump(mode="json"),
        "environment": describe_environment(sweep.config.seeds[0]),
        "goals": goal_lines(sweep, results),
        "tolerated": [asdict(row) for row in tolerated(sweep, results)],
        "cells": [asdict(result) for result in results.values()],
        "runs": [_run(row) for row in rows if row.state != "new"],
    }


def _run(row: Outcome) -> dict[str, Any]:
    return {
        **asdict(row.task.cell),
        "seed": row.task.seed,
        "tuned": dict(row.task.tuned),
        "chosen": row.chosen,
        "state": row.state,
        "record": row.record,
    }
