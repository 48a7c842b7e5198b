"""Write report.mllog: the runs in the format of MLPerf's training log.

The format is defined by the package mlperf_logging (`:::MLLOG` and a JSON object with namespace,
time_ms, event_type, key, value and metadata). The keys `events_per_second` and `workers` are not
part of it. Lines of a run are consecutive, and the namespace identifies the run. Times are computed
from the run's records, and may be off by about its start-up time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pres_dist.bench.scaling.schema import Run, ScalingReport

START, END, POINT = "INTERVAL_START", "INTERVAL_END", "POINT_IN_TIME"


def mllog(report: ScalingReport) -> str:
    """Return the lines of all finished runs."""
    lines = [line for run in report.runs if run.state == "done" for line in _run(report, run)]
    return "".join(f"{line}\n" for line in lines)


def namespace(run: Run) -> str:
    """Return the namespace that identifies a run in the log."""
    changed = "".join(f"-{name}={value}" for name, value in run.changes.items())
    place = f"{run.launcher}-w{run.workers}-b{run.batch_size}{changed}"
    return f"{place}-s{run.seed}-r{run.repeat}"


def _run(report: ScalingReport, run: Run) -> Iterator[str]:
    assert run.date is not None
    write = _Writer(namespace(run), datetime.fromisoformat(run.date).timestamp())
    config, hardware = report.config, report.environment["hardware"]
    yield write(POINT, "submission_benchmark", f"pres_dist_{config['task']['kind']}")
    yield write(POINT, "submission_division", "open")
    yield write(POINT, "submission_status", "research")
    yield write(POINT, "submission_platform", _platform(run, hardware))
    yield write(POINT, "seed", run.seed)
    yield write(POINT, "global_batch_size", run.batch_size)
    yield write(POINT, "workers", run.workers)
    yield write(POINT, "opt_name", "adam")
    yield write(POINT, "opt_base_learning_rate", config["training"]["learning_rate"])
    yield write(POINT, "train_samples", max((epoch.events for epoch in run.epochs), default=0))
    yield write(START, "run_start")
    for epoch in run.epochs:
        at = {"epoch_num": epoch.epoch}
        yield write(START, "epoch_start", **at)
        write.passes(epoch.train_seconds)
        yield write(END, "epoch_stop", **at)
        yield write(START, "eval_start", **at)
        write.passes(max(epoch.seconds - epoch.train_seconds, 0))
        yield write(POINT, "eval_accuracy", epoch.validation_ap, metric="validation AP", **at)
        yield write(END, "eval_stop", **at)
    yield write(END, "run_stop", status="success")
    yield write(POINT, "eval_accuracy", run.figures["test_ap"], metric="test AP")
    yield write(POINT, "events_per_second", run.figures["events_per_second"])


def _platform(run: Run, hardware: dict[str, Any]) -> str:
    devices = sorted({share.device for share in run.shares})
    return f"{run.workers} x {', '.join(devices)} ({hardware['cpu']})"


class _Writer:
    """Writer of the log lines of a run, with its simulated clock."""

    def __init__(self, namespace: str, started: float) -> None:
        self._namespace, self._now = namespace, started

    def passes(self, seconds: float) -> None:
        self._now += seconds

    def __call__(self, event: str, key: str, value: Any = None, **metadata: Any) -> str:
        line = {
            "namespace": self._namespace,
            "time_ms": round(self._now * 1000),
            "event_type": event,
            "key": key,
            "value": value,
            "metadata": metadata,
        }
        return f":::MLLOG {json.dumps(line)}"
