"""Write the reports of a sweep: complete JSON, Markdown tables, and an HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pres_dist.bench.cells import Results, cell_results
from pres_dist.bench.goals import goal_lines, tolerated
from pres_dist.bench.ledger import Ledger
from pres_dist.bench.markdown import markdown
from pres_dist.bench.page import write_sweep_page
from pres_dist.bench.plan import Sweep
from pres_dist.bench.records import Record
from pres_dist.bench.sweep import Outcome, outcomes
from pres_dist.errors import ConfigError
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment

JSON, MARKDOWN, HTML = "report.json", "report.md", "report.html"


def write_reports(sweep: Sweep, ledger: Ledger) -> list[Path]:
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
    return [*paths, page] if write_sweep_page(page, sweep, results, rows, content) else paths


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


def report_content(sweep: Sweep, rows: Sequence[Outcome], results: Results) -> dict[str, Any]:
    """Return the content of report.json."""
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
        "fingerprint": row.task.fingerprint,
        "tuned": dict(row.task.tuned),
        "chosen": row.chosen,
        "state": row.state,
        "record": row.record,
    }
