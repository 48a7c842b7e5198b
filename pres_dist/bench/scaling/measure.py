"""Read the measurements of a finished run from its folder.

Quantities per step are means over all training steps of the run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from pres_dist.bench.records import Record, at_best
from pres_dist.bench.scaling.schema import Epoch, WorkerShare
from pres_dist.records import EpochRecord, WorkerRecord
from pres_dist.report.metrics_log import read_metrics
from pres_dist.report.worker_figures import SPLIT
from pres_dist.run_files import ENVIRONMENT, METRICS

OTHER = "other"
"""Name of the training time outside of all stages, mostly for checkpoints."""
PARTS = (*SPLIT, OTHER)


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


@dataclass(frozen=True)
class Quantity:
    """Definition of a figure of a run.

    Attributes:
        unit: description of the figure and its unit.
        better: "more" or "less", whichever is better; None if neither is.
        of: function that returns the figure of a run, or None if the run has none.
    """

    unit: str
    better: str | None
    of: Callable[[Measured], float | None]


def _rate(run: Measured) -> float | None:
    seconds = run.total("train_seconds")
    return run.total("events") / seconds if seconds else None


def _metric(part: str, name: str) -> Callable[[Measured], float | None]:
    return lambda run: run.record[part][name]


def _best(name: str) -> Callable[[Measured], float | None]:
    return lambda run: at_best(run.record, name)


def _all(name: str) -> Callable[[Measured], float | None]:
    return lambda run: sum(run.of_workers(name)) if run.of_workers(name) else None


def _largest(name: str) -> Callable[[Measured], float | None]:
    return lambda run: max(run.of_workers(name), default=None)


def _by_stage(stage: str) -> Callable[[Measured], float | None]:
    """Return a function for the mean seconds of a stage over workers."""

    def of(run: Measured) -> float | None:
        return fmean(s.seconds.get(stage, 0.0) for s in run.shares) if run.shares else None

    return of


def _balance(run: Measured) -> float | None:
    """Return the largest compute time of a worker relative to the mean."""
    return imbalance([share.seconds.get("compute", 0.0) for share in run.shares])


def _events_per_worker(run: Measured) -> float | None:
    rate = _rate(run)
    return rate / len(run.shares) if rate and run.shares else None


def _cpu_microseconds(run: Measured) -> float | None:
    events = run.total("events")
    return 1e6 * run.total("train_cpu_seconds") / events if events else None


def _step_rate(run: Measured) -> float | None:
    """Return the events/s of the steps alone, by the slowest worker."""
    seconds = [sum(s.seconds.values()) - s.seconds[OTHER] for s in run.shares]
    spent = run.steps * max(seconds, default=0.0)
    return run.total("events") / spent if spent else None


def _cpu_share(run: Measured) -> float | None:
    seconds = run.total("train_seconds") * len(run.shares)
    return run.total("train_cpu_seconds") / seconds if seconds else None


QUANTITIES: dict[str, Quantity] = {
    "events_per_second": Quantity("training events a second", "more", _rate),
    "events_per_second_per_worker": Quantity("the same by worker", "more", _events_per_worker),
    "step_events_per_second": Quantity(
        "training events a second of steps alone, without checkpoints", "more", _step_rate
    ),
    "cpu_microseconds_per_event": Quantity(
        "microseconds of CPU time of all workers by training event", "less", _cpu_microseconds
    ),
    "cpu_share": Quantity(
        "seconds of CPU time of a worker by second of training", None, _cpu_share
    ),
    "train_seconds": Quantity(
        "seconds of training of the run", "less", lambda run: run.total("train_seconds")
    ),
    "seconds": Quantity(
        "seconds of the run, evaluation included", "less", lambda run: run.record["seconds"]
    ),
    "test_ap": Quantity("AP of the test split", "more", _metric("test", "ap")),
    "test_auc": Quantity("AUC of the test split", "more", _metric("test", "auc")),
    "test_mrr": Quantity("MRR of the test split", "more", _metric("test", "mrr")),
    "validation_ap": Quantity(
        "AP of the validation split in the best epoch", "more", _metric("validation", "ap")
    ),
    **{
        f"{stage}_seconds_per_step": Quantity(
            f"seconds of a step in {stage}, mean over workers", "less", _by_stage(stage)
        )
        for stage in PARTS
    },
    "local_bytes_per_step": Quantity(
        "bytes of node state of all workers in a step that stayed in their process",
        None,
        _all("local_bytes"),
    ),
    "remote_bytes_per_step": Quantity(
        "bytes of node state that moved between workers in a step", "less", _all("remote_bytes")
    ),
    "gradient_bytes_per_step": Quantity(
        "bytes that workers sent in a step to add up gradients", "less", _all("gradient_bytes")
    ),
    "peak_host_bytes": Quantity(
        "largest resident memory of a worker", "less", _largest("peak_host_bytes")
    ),
    "peak_host_bytes_of_all": Quantity(
        "sum over workers of their largest resident memory", "less", _all("peak_host_bytes")
    ),
    "peak_device_bytes": Quantity(
        "largest memory of tensors on a worker's GPU", "less", _largest("peak_device_bytes")
    ),
    "imbalance": Quantity("largest over mean seconds of computing of workers", "less", _balance),
    "pending_events_mean": Quantity(
        "pending events of an endpoint in its temporal batch", None, _best("pending_events_mean")
    ),
    "pending_events_max": Quantity(
        "most pending events of an endpoint", None, lambda run: run.pending_events_max
    ),
    "pending_share": Quantity("share of endpoints with some", None, _best("pending_share")),
    "gate": Quantity("weight of the measured state in the correction", None, _best("gate")),
    "coherence": Quantity("cosine of memory before and after updates", None, _best("coherence")),
    "prediction_ratio": Quantity(
        "squared error of the prediction over that of persistence",
        "less",
        _best("prediction_ratio"),
    ),
}
"""Figures of a run. Figures of PRES and pending events are of the best epoch in validation."""


def measured(run_dir: Path, record: Record) -> Measured:
    """Read the measurements of a finished run from its folder.

    Raises:
        DataError: metrics.jsonl is damaged.
    """
    told = [one for one in read_metrics(run_dir / METRICS) if one["kind"] == "epoch"]
    ends = [0, *(one["step"] for one in told)]
    steps = [end - start for start, end in pairwise(ends)]
    epochs = [_epoch(epoch) for epoch in record["epochs"]]
    trained = sum(epoch.train_seconds for epoch in epochs)
    shares = [_share(workers, sum(steps), trained) for workers in _by_rank(told)]
    staleness: Counter[str] = Counter()
    for one in told:
        staleness.update(one.get("staleness") or {})
    environment = json.loads((run_dir / ENVIRONMENT).read_text(encoding="utf-8"))
    pending = [m for one in told if (m := one.get("pending_events_max")) is not None]
    return Measured(
        record=record,
        epochs=epochs,
        steps=sum(steps),
        shares=shares,
        staleness=dict(staleness),
        backend=told[-1].get("backend") if told else None,
        environment=environment,
        pending_events_max=max(pending, default=None),
        # Assumes that the other machines equal that of worker 0.
        oversubscribed=_oversubscribed(shares, environment["hardware"]["usable_cores"]),
    )


def imbalance(values: Sequence[float]) -> float | None:
    """Return the largest value divided by the mean; 1 is perfectly balanced."""
    mean = fmean(values) if values else 0
    return max(values) / mean if mean else None


def _epoch(epoch: Mapping[str, Any]) -> Epoch:
    seconds, rate = epoch["train_seconds"], epoch["events_per_second"]
    return Epoch(
        epoch=epoch["epoch"],
        events=round(seconds * rate) if rate else 0,
        validation_ap=epoch["validation_ap"],
        seconds=epoch["seconds"],
        train_seconds=seconds,
        train_cpu_seconds=epoch["train_cpu_seconds"],
    )


def _by_rank(told: Sequence[EpochRecord]) -> list[list[WorkerRecord]]:
    """Return the epoch records of each worker."""
    return [list(epochs) for epochs in zip(*(one["workers"] for one in told), strict=True)]


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
    shortest = min(len(one) for one in ranges)
    return WorkerShare(
        rank=last["rank"],
        host=last["host"],
        device=last.get("device", "cpu"),
        threads=last.get("threads", 1),
        seconds={name: spent / steps for name, spent in seconds.items()},
        local_bytes=sum(volume["local_bytes"] for volume in traffic) / steps,
        remote_bytes=sum(volume["remote_bytes"] for volume in traffic) / steps,
        gradient_bytes=sum(one.get("gradient_bytes", 0) for one in epochs) / steps,
        compute_by_range=[fmean(one[at] for one in ranges) for at in range(shortest)],
        peak_host_bytes=max(one["peak_rss_bytes"] for one in epochs),
        peak_device_bytes=last.get("peak_device_bytes"),
    )


def _oversubscribed(shares: Sequence[WorkerShare], cores: int | None) -> bool:
    """Return True if the threads of CPU workers exceed the usable cores of a machine."""
    threads: Counter[str] = Counter()
    for share in shares:
        threads[share.host] += share.threads if share.device == "cpu" else 0
    return cores is not None and max(threads.values(), default=0) > cores
