"""Read the figures of a finished run from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pres_dist.records import EpochRecord
from pres_dist.report.figures import prediction_ratio
from pres_dist.report.metrics_log import read_metrics
from pres_dist.run_files import ENVIRONMENT, METRICS, RESULTS

Record = dict[str, Any]
METRIC_NAMES = ("ap", "auc", "mrr")
EPOCH_FIELDS = (
    "loss",
    "gate",
    "coherence",
    "events_per_second",
    "events_per_cpu_second",
    "pending_events_mean",
    "pending_share",
    "prediction_error",
    "persistence_error",
)


def read_record(run_dir: Path, state: str, attempts: Sequence[Mapping[str, Any]]) -> Record:
    """Return the data of a finished run for reports and tables.

    Args:
        run_dir: folder of the run.
        state: done or diverged.
        attempts: attempts at the run, with the CPU and wall-clock seconds of each.

    Raises:
        DataError, ValueError: metrics.jsonl or another file of the run is damaged.
    """
    records = read_metrics(run_dir / METRICS)
    epochs = [_epoch(record) for record in records if record["kind"] == "epoch"]
    results = _json(run_dir / RESULTS)
    environment = _json(run_dir / ENVIRONMENT)
    return {
        "state": state,
        "run": run_dir.name,
        "validation": _metrics(results.get("validation")),
        "test": _metrics(results.get("test")),
        "best_epoch": results.get("best_epoch"),
        "seconds": results.get("seconds"),
        "cpu_seconds": _total(attempts, "cpu_seconds"),
        "attempts": len(attempts),
        "optimizer_steps": _steps(records),
        "epochs": epochs,
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


def _epoch(record: EpochRecord) -> Record:
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


def _steps(records: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the number of optimizer steps of the run."""
    told = [record["optimizer_steps"] for record in records if "optimizer_steps" in record]
    return told[-1] if told else None


def _metrics(part: Mapping[str, Any] | None) -> Record:
    return {name: (part or {}).get(name) for name in METRIC_NAMES}


def _total(attempts: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return the sum over attempts; None if one was killed before it was measured."""
    values = [attempt.get(name) for attempt in attempts]
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _json(path: Path) -> Record:
    if not path.exists():
        return {}
    values: Record = json.loads(path.read_text(encoding="utf-8"))
    return values
