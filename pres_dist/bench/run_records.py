"""Read the figures of a finished run from its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from pres_dist.records import Environment, EpochRecord, Metrics, Results
from pres_dist.report.figures import prediction_ratio
from pres_dist.report.metrics_log import read_metrics
from pres_dist.report.result_tables import NAMES
from pres_dist.run_files import ENVIRONMENT, METRICS, RESULTS

State = Literal["done", "diverged", "failed", "begun", "new"]
EPOCH_FIELDS = (
    *("loss", "gate", "coherence", "events_per_second", "events_per_cpu_second"),
    *("pending_events_mean", "pending_share", "prediction_error", "persistence_error"),
)


class _Outcome(TypedDict):
    outcome: State


class Attempt(_Outcome, total=False):
    """One attempt at a run; without figures if its process was killed."""

    returncode: int
    seconds: float
    cpu_seconds: float


class Record(TypedDict):
    """Figures of a finished run, as reports keep them; figures that it does not have are None."""

    state: State
    run: str
    validation: dict[str, float | None]
    test: dict[str, float | None]
    baselines: dict[str, dict[str, float | None]]
    """Test metrics of the baselines by name; reports of older revisions have none."""
    best_epoch: int | None
    seconds: float | None
    cpu_seconds: float | None
    attempts: int
    optimizer_steps: int | None
    epochs: list[dict[str, Any]]
    date: str | None
    git_commit: str | None


def read_record(run_dir: Path, state: State, attempts: Sequence[Attempt]) -> Record:
    """Return the data of a finished run for reports and tables.

    Args:
        run_dir: folder of the run.
        state: done or diverged.
        attempts: attempts at the run, with the CPU and wall-clock seconds of each.

    Raises:
        DataError, ValueError: metrics.jsonl or another file of the run is damaged.
    """
    records = read_metrics(run_dir / METRICS)
    results: Results = _json(run_dir / RESULTS)
    environment: Environment = _json(run_dir / ENVIRONMENT)
    test = results.get("test") or {}
    steps = [
        record["optimizer_steps"]
        for record in records
        if record["kind"] != "final" and "optimizer_steps" in record
    ]
    spent = [attempt.get("cpu_seconds") for attempt in attempts]
    known = [seconds for seconds in spent if seconds is not None]
    return {
        "state": state,
        "run": run_dir.name,
        "validation": _metrics(results.get("validation")),
        "test": _metrics(test),
        "baselines": {name: _metrics(of) for name, of in (test.get("baselines") or {}).items()},
        "best_epoch": results.get("best_epoch"),
        "seconds": results.get("seconds"),
        # Unknown if an attempt was killed before it was measured.
        "cpu_seconds": sum(known) if spent and len(known) == len(spent) else None,
        "attempts": len(attempts),
        "optimizer_steps": steps[-1] if steps else None,
        "epochs": [_epoch(record) for record in records if record["kind"] == "epoch"],
        "date": environment.get("date"),
        "git_commit": environment.get("git_commit"),
    }


def at_best(record: Record, name: str) -> float | None:
    """Return a figure of the epoch with the best validation metric; None if missing."""
    for epoch in record["epochs"]:
        if epoch["epoch"] == record["best_epoch"]:
            value: float | None = epoch.get(name)
            return value
    return None


def mean_of_epochs(record: Record, name: str) -> float | None:
    """Return the mean of a figure over the run's epochs; None if no epoch has it."""
    values = [epoch[name] for epoch in record["epochs"] if epoch.get(name) is not None]
    return sum(values) / len(values) if values else None


def time_to(record: Record, target: float, unit: str = "train_cpu_seconds") -> float | None:
    """Return the seconds of training until validation AP reached `target`; None if it never did."""
    spent = 0.0
    for epoch in record["epochs"]:
        spent += epoch[unit]
        if (epoch["validation_ap"] or 0.0) >= target:
            return spent
    return None


def _epoch(record: EpochRecord) -> dict[str, Any]:
    cpu = sum(worker["cpu_seconds"] for worker in record["workers"])
    events, rate = cpu * record["events_per_cpu_second"], record["events_per_second"]
    return {
        "epoch": record["epoch"],
        "validation_ap": (record.get("validation") or {}).get("ap"),
        "seconds": record["seconds"],
        "train_seconds": events / rate if rate else 0.0,
        "train_cpu_seconds": cpu,
        "prediction_ratio": prediction_ratio(record),
        **{name: record.get(name) for name in EPOCH_FIELDS},
        # A run that resumed at the end of an epoch has trained none of its events since.
        **({} if rate else {"events_per_second": None, "events_per_cpu_second": None}),
    }


def _metrics(part: Metrics | None) -> dict[str, Any]:
    return {name: (part or {}).get(name) for name in NAMES}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
