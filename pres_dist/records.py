"""Types of the JSON that a run writes: metrics.jsonl, results.json, environment.json.

Keys may be missing: a task has only its own metrics, and a reader may meet the file of an
older revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

MetricName = Literal["ap", "auc", "mrr", "accuracy", "macro_f1"]
SplitName = Literal["validation", "test"]
EVALUATED_SPLITS: Sequence[SplitName] = ("validation", "test")


class Metrics(TypedDict, total=False):
    """Metrics of a set of events; without any if it is empty or has no labels."""

    num_events: int
    ap: float
    auc: float
    mrr: float
    accuracy: float
    macro_f1: float
    ap_per_batch: float
    auc_per_batch: float
    inductive: Metrics
    """Of the events with a node that has no training event."""
    transductive: Metrics
    """Of the other events."""
    negatives_found: float | None
    """Share of the negatives that are of the requested kind; random ones replace the others."""
    baselines: dict[str, Metrics]


class Results(TypedDict, total=False):
    """Final metrics of a run, in results.json, and the settings behind them."""

    model: str
    num_negatives: int
    negatives: str
    classes: list[int]
    validation: Metrics
    test: Metrics
    best_epoch: int
    seconds: float
    settings: dict[str, object]
    """Settings of the evaluation; only in evaluation.json."""


class Losses(TypedDict, total=False):
    """Terms of the loss that the task learns."""

    link_loss: float
    label_loss: float


class WorkerProgress(TypedDict, total=False):
    """Time and traffic of a worker since the start of the epoch."""

    seconds: dict[str, float]
    pending_events_mean: float | None
    local_bytes: int
    remote_bytes: int


class StepRecord(Losses, total=False):
    """Line of metrics.jsonl about an optimizer step."""

    kind: Literal["step"]
    step: int
    epoch: int
    events: int
    loss: float
    coherence: float | None
    gate: float | None
    optimizer_steps: int
    learning_rate: float
    events_per_second: float
    staleness: dict[str, int]
    """Number of steps by the pushes that their read of the memory lacked."""
    worker_0: WorkerProgress


class EpochMeans(Losses, total=False):
    """Means over the events, batches or predicted nodes of an epoch."""

    loss: float
    coherence: float | None
    gradient_norm: float
    pending_events_mean: float
    pending_events_max: int
    pending_share: float
    prediction_error: float | None
    persistence_error: float | None
    gate: float | None


class WorkerRecord(TypedDict, total=False):
    """Time, memory and traffic of a worker in the training of an epoch."""

    rank: int
    host: str
    device: str
    threads: int
    seconds: dict[str, float]
    compute_by_range: list[float]
    cpu_seconds: float
    peak_rss_bytes: int
    peak_device_bytes: int | None
    traffic: dict[str, dict[str, int]]
    gradient_bytes: int


class EpochCosts(TypedDict, total=False):
    """Time, memory and traffic of an epoch; rates exclude validation."""

    events_per_second: float
    events_per_cpu_second: float
    seconds: float
    stage_seconds: dict[str, float]
    peak_rss_bytes: int
    backend: str | None
    """Of torch.distributed; None for one worker."""
    workers: list[WorkerRecord]


class EpochRecord(EpochMeans, EpochCosts, total=False):
    """Line of metrics.jsonl about an epoch."""

    kind: Literal["epoch"]
    step: int
    epoch: int
    optimizer_steps: int
    largest_batch: int
    staleness: dict[str, int]
    captured: dict[str, int]
    checkpoints: dict[str, float]
    validation: Metrics


class FinalRecord(Results, total=False):
    """Last line of metrics.jsonl: the results."""

    kind: Literal["final"]
    step: int


Record = StepRecord | EpochRecord | FinalRecord


class Hardware(TypedDict, total=False):
    """Machine that a run started on."""

    system: str
    cpu: str
    cores: int | None
    usable_cores: int | None
    memory_gib: float | None
    gpus: list[str]


class Environment(TypedDict, total=False):
    """Facts that can explain why two runs differ, in environment.json; None if unknown."""

    date: str
    command: str
    launch: str | None
    seed: int
    git_commit: str | None
    interfaces: dict[str, str]
    versions: dict[str, str | None]
    hardware: Hardware
