"""Read the measurements of a finished run from its folder.

Quantities per step are means over all training steps of the run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from pres_dist.bench.run_records import Record, at_best
from pres_dist.bench.scaling.report_schema import Epoch, WorkerShare
from pres_dist.records import WorkerRecord
from pres_dist.report.figures import SPLIT
from pres_dist.report.metrics_log import read_metrics
from pres_dist.run_files import ENVIRONMENT, METRICS

OTHER = "other"
"""Name of the training time outside of all stages, mostly for checkpoints."""
PARTS = (*SPLIT, OTHER)
OF_SEEDS = (
    *("test_ap", "test_auc", "test_mrr", "validation_ap", "gate", "coherence", "prediction_ratio"),
    *("pending_events_mean", "pending_events_max", "pending_share"),
)
"""Figures that are equal in each repeat of a seed."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a finished run.

    Attributes:
        environment: content of environment.json, with versions and hardware.
        oversubscribed: True if a machine had fewer usable cores than worker threads.
    """

    record: Record
    epochs: Sequence[Epoch]
    steps: int
    shares: Sequence[WorkerShare]
    staleness: Mapping[str, int]
    backend: str | None
    environment: Mapping[str, Any]
    pending_events_max: int | None
    oversubscribed: bool

    def total(self, name: str) -> float:
        """Return the sum of a figure over epochs."""
        return sum(getattr(epoch, name) for epoch in self.epochs)

    def of_workers(self, name: str) -> list[float]:
        """Return a figure of every worker that has it."""
        values = [getattr(share, name) for share in self.shares]
        return [value for value in values if value is not None]


def measured(run_dir: Path, record: Record) -> Measured:
    """Read the measurements of a finished run from its folder.

    Raises:
        DataError: metrics.jsonl is damaged.
    """
    told = [one for one in read_metrics(run_dir / METRICS) if one["kind"] == "epoch"]
    steps = told[-1]["step"] if told else 0
    epochs = []
    for epoch in record["epochs"]:
        seconds, rate = epoch["train_seconds"], epoch["events_per_second"]
        epochs.append(
            Epoch(
                epoch=epoch["epoch"],
                events=round(seconds * rate) if rate else 0,
                validation_ap=epoch["validation_ap"],
                seconds=epoch["seconds"],
                train_seconds=seconds,
                train_cpu_seconds=epoch["train_cpu_seconds"],
            )
        )
    trained = sum(epoch.train_seconds for epoch in epochs)
    by_rank = zip(*(one["workers"] for one in told), strict=True)
    shares = [_share(workers, steps, trained) for workers in by_rank]
    staleness: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for one in told:
        staleness.update(one.get("staleness") or {})
    for share in shares:
        threads[share.host] += share.threads if share.device == "cpu" else 0
    environment = json.loads((run_dir / ENVIRONMENT).read_text(encoding="utf-8"))
    # Assumes that the other machines equal that of worker 0.
    cores = environment["hardware"]["usable_cores"]
    pending = [m for one in told if (m := one.get("pending_events_max")) is not None]
    return Measured(
        record=record,
        epochs=epochs,
        steps=steps,
        shares=shares,
        staleness=dict(staleness),
        backend=told[-1].get("backend") if told else None,
        environment=environment,
        pending_events_max=max(pending, default=None),
        oversubscribed=cores is not None and max(threads.values(), default=0) > cores,
    )


def _share(epochs: Sequence[WorkerRecord], steps: int, trained: float) -> WorkerShare:
    """Aggregate a worker's epochs, with `steps` training steps and `trained` seconds in total."""
    last, steps = epochs[-1], max(steps, 1)
    traffic = [volume for one in epochs for volume in (one.get("traffic") or {}).values()]
    seconds = {
        name: sum(one["seconds"][name] for one in epochs)
        for name in SPLIT
        if name in last["seconds"]
    }
    # Prefetching overlaps with other stages, so that their sum may exceed the elapsed time.
    seconds[OTHER] = max(trained - sum(seconds.values()), 0.0)
    ranges = [one.get("compute_by_range") or [] for one in epochs]
    return WorkerShare(
        rank=last["rank"],
        host=last["host"],
        device=last.get("device", "cpu"),
        threads=last.get("threads", 1),
        seconds={name: spent / steps for name, spent in seconds.items()},
        local_bytes=sum(volume["local_bytes"] for volume in traffic) / steps,
        remote_bytes=sum(volume["remote_bytes"] for volume in traffic) / steps,
        gradient_bytes=sum(one.get("gradient_bytes", 0) for one in epochs) / steps,
        compute_by_range=[fmean(column) for column in zip(*ranges, strict=False)],
        peak_host_bytes=max(one["peak_rss_bytes"] for one in epochs),
        peak_device_bytes=last.get("peak_device_bytes"),
    )


def imbalance(values: Sequence[float]) -> float | None:
    """Return the largest value divided by the mean; 1 is perfectly balanced."""
    mean = fmean(values) if values else 0
    return max(values) / mean if mean else None


Of = Callable[[Measured], float | None]


class Quantity(NamedTuple):
    """Definition of a figure of a run.

    Attributes:
        of: function that returns the figure of a run, or None if the run has none.
        better: "more" or "less", whichever is better; None if neither is.
    """

    of: Of
    better: str | None = None


def _ratio(value: float, by: float) -> float | None:
    return value / by if by else None


def _rate(run: Measured) -> float | None:
    return _ratio(run.total("events"), run.total("train_seconds"))


def _rate_per_worker(run: Measured) -> float | None:
    rate = _rate(run)
    return _ratio(rate, len(run.shares)) if rate else None


def _step_rate(run: Measured) -> float | None:
    """Return the events/s of the steps alone, by the slowest worker."""
    seconds = [sum(s.seconds.values()) - s.seconds[OTHER] for s in run.shares]
    return _ratio(run.total("events"), run.steps * max(seconds, default=0.0))


def _cpu_microseconds(run: Measured) -> float | None:
    return _ratio(1e6 * run.total("train_cpu_seconds"), run.total("events"))


def _cpu_share(run: Measured) -> float | None:
    """Return the CPU seconds of a worker per second of training."""
    return _ratio(run.total("train_cpu_seconds"), run.total("train_seconds") * len(run.shares))


def _best(name: str) -> Of:
    return lambda run: at_best(run.record, name)


def _all(name: str) -> Of:
    return lambda run: sum(run.of_workers(name)) if run.of_workers(name) else None


def _largest(name: str) -> Of:
    return lambda run: max(run.of_workers(name), default=None)


def _stage(name: str) -> Of:
    """Return a function for the mean seconds of a stage over workers."""
    return lambda run: fmean(s.seconds.get(name, 0.0) for s in run.shares) if run.shares else None


QUANTITIES: dict[str, Quantity] = {
    "events_per_second": Quantity(_rate, "more"),
    "events_per_second_per_worker": Quantity(_rate_per_worker, "more"),
    "step_events_per_second": Quantity(_step_rate, "more"),
    "cpu_microseconds_per_event": Quantity(_cpu_microseconds, "less"),
    "cpu_share": Quantity(_cpu_share),
    "train_seconds": Quantity(lambda run: run.total("train_seconds"), "less"),
    "seconds": Quantity(lambda run: run.record["seconds"], "less"),
    "test_ap": Quantity(lambda run: run.record["test"]["ap"], "more"),
    "test_auc": Quantity(lambda run: run.record["test"]["auc"], "more"),
    "test_mrr": Quantity(lambda run: run.record["test"]["mrr"], "more"),
    "validation_ap": Quantity(lambda run: run.record["validation"]["ap"], "more"),
    **{f"{stage}_seconds_per_step": Quantity(_stage(stage), "less") for stage in PARTS},
    "local_bytes_per_step": Quantity(_all("local_bytes")),
    "remote_bytes_per_step": Quantity(_all("remote_bytes"), "less"),
    "gradient_bytes_per_step": Quantity(_all("gradient_bytes"), "less"),
    "peak_host_bytes": Quantity(_largest("peak_host_bytes"), "less"),
    "peak_host_bytes_of_all": Quantity(_all("peak_host_bytes"), "less"),
    "peak_device_bytes": Quantity(_largest("peak_device_bytes"), "less"),
    "imbalance": Quantity(
        lambda run: imbalance([share.seconds.get("compute", 0.0) for share in run.shares]), "less"
    ),
    "pending_events_mean": Quantity(_best("pending_events_mean")),
    "pending_events_max": Quantity(lambda run: run.pending_events_max),
    "pending_share": Quantity(_best("pending_share")),
    "gate": Quantity(_best("gate")),
    "coherence": Quantity(_best("coherence")),
    "prediction_ratio": Quantity(_best("prediction_ratio"), "less"),
}
"""Figures of a run, described in docs/reference/scaling_report.md.

Figures of PRES and pending events are of the best epoch in validation.
"""
