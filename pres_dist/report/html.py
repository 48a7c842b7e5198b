"""report.html: a run on one page that needs no network."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import yaml

from pres_dist.config.dump import scalar
from pres_dist.errors import DataError
from pres_dist.files import read_regular, write_atomically
from pres_dist.records import EVALUATED_SPLITS, Environment, Record, Results
from pres_dist.report.figures import figures
from pres_dist.report.metrics_log import read_metrics
from pres_dist.report.result_tables import (
    NAMES,
    duration,
    metrics_in,
    negatives_found,
    number,
    shortcomings,
)
from pres_dist.run_files import CONFIG, ENVIRONMENT, METRICS, REPORT, RESULTS

_log = logging.getLogger(__name__)
Rows = list[tuple[str, str]]


def write_report(run_dir: Path) -> Path | None:
    """Write report.html from the run folder; sections without data are omitted.

    Returns:
        Path of the report; None, with a logged warning, if plotly or jinja2 is not installed.

    Raises:
        DataError: A file of the run folder is damaged.
    """
    path = run_dir / REPORT
    try:
        content = report_content(run_dir)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: cannot be made: {METRICS}, {RESULTS} or {ENVIRONMENT} is damaged: "
            f"{type(error).__name__}: {error}"
        ) from None
    return path if write_page(path, "report.html.j2", content) else None


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> bool:
    """Write a page with plots that needs no network.

    Args:
        path: of the page.
        template: name of its template.
        content: values for the template; `figures` are the plots.

    Returns:
        True if the page was written; False, with a logged warning, without plotly or jinja2.

    Raises:
        DataError: it cannot be written, as on a full disk.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        _log.warning("no %s: %s is missing: pip install 'pres-dist[report]'", path.name, error.name)
        return False
    environment = Environment(
        loader=PackageLoader("pres_dist.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(number=number, plain=asdict)
    page = environment.get_template(template).render(
        **content,
        plotly=Markup(get_plotlyjs()),
        style=Markup(_template("report.css")),
        script=Markup(_template("report.js")),
    )
    try:
        write_atomically(path, page)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    return True


def report_content(run_dir: Path) -> dict[str, Any]:
    """Return the content of the page, read from the run folder."""
    config = _read(run_dir / CONFIG, yaml.safe_load)
    environment = cast("Environment", _read(run_dir / ENVIRONMENT, json.loads))
    results = cast("Results", _read(run_dir / RESULTS, json.loads))
    records = read_metrics(run_dir / METRICS)
    parts = [name for name in reversed(EVALUATED_SPLITS) if results.get(name)]
    return {
        "name": config.get("name", run_dir.name),
        "facts": _facts(config, environment, results, records),
        "results": results,
        "parts": parts,
        "metrics": {key: NAMES[key] for key in metrics_in([results[name] for name in parts])},
        "inductive": any(results[name].get("inductive") for name in parts),
        "shortcomings": shortcomings(results),
        "found": negatives_found(results),
        "figures": figures(records),
        "config": sections(config, "run"),
        "environment": sections(environment, "run"),
    }


def _facts(
    config: Mapping[str, Any], environment: Environment, results: Results, records: Sequence[Record]
) -> Rows:
    """Return the main facts of a run as rows."""
    epochs = [record for record in records if record["kind"] == "epoch"]
    workers = [len(epoch["workers"]) for epoch in epochs if epoch.get("workers")]
    largest = max((epoch.get("largest_batch") or 0 for epoch in epochs), default=0)
    training, pres = config.get("training", {}), config.get("pres", {})
    model = config.get("model", {})
    asked = training.get("batch_size")
    # Events of equal time stay together, which may exceed the setting.
    exceeds = isinstance(asked, int) and largest > asked
    on = pres.get("prediction") or pres.get("coherence_weight")
    facts = {
        "stream": config.get("data", {}).get("stream"),
        "model": model.get("kind", "tgn") if model else None,
        "temporal batch": asked,
        "largest batch, of events of equal time": largest if exceeds else None,
        "workers": workers[-1] if workers else None,
        "epochs": training.get("epochs"),
        "best epoch": results.get("best_epoch"),
        "PRES": "on" if on else "off",
        "seed": training.get("seed"),
        "date": str(environment["date"]).replace("T", " ") if environment.get("date") else None,
        "took": duration(results["seconds"]) if results.get("seconds") else None,
    }
    return [(name, _text(value)) for name, value in facts.items() if value is not None]


def sections(values: Mapping[str, Any], first: str) -> list[tuple[str, Rows]]:
    """Return two levels of a mapping as tables: one for plain values, one for each section."""
    plain = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    inner = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    sections = {first: plain, **inner} if plain else inner
    return [
        (title, [(name, _text(value)) for name, value in section.items()])
        for title, section in sections.items()
    ]


def _text(value: Any) -> str:
    """Format a value for a table cell; `-` for None."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Mapping):
        return scalar(dict(value))
    return str(value)


def _read(path: Path, parse: Any) -> dict[str, Any]:
    """Read a mapping from a file; return an empty one if there is no file."""
    if not path.exists():
        return {}
    try:
        values = parse(read_regular(path).decode())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: damaged: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: must hold a mapping, got {type(values).__name__}")
    return values


def _template(name: str) -> str:
    return (files("pres_dist.report") / "templates" / name).read_text(encoding="utf-8")
