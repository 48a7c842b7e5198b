"""report.json of a scaling bench: these classes are its schema."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pres_dist.bench.scaling.config import Launcher, Mode, ScalingConfig

VERSION: Literal["pres_dist.scaling/1"] = "pres_dist.scaling/1"
State = Literal["done", "diverged", "failed", "begun", "new"]


class Part(BaseModel):
    """A part of the report; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class Interval(Part):
    """Values of several runs."""

    mean: float
    half: float | None
    """Half the width of the mean's 95% t-interval; None for a single value."""
    count: int
    lowest: float
    highest: float


class WorkerShare(Part):
    """What one worker did, by training step; means over epochs (and runs, in a point)."""

    rank: int
    host: str
    device: str
    """Name of the GPU, or cpu."""
    threads: int
    seconds: dict[str, float]
    """Seconds of a step by stage: sample, pull, compute, push, all_reduce, wait, and other: what
    training spent outside of all stages, above all on checkpoints."""
    local_bytes: float
    """Node state it read and wrote in a step that did not leave the process."""
    remote_bytes: float
    """Node state that moved between it and other workers in a step."""
    gradient_bytes: float
    """What it sent in a step to add up gradients."""
    compute_by_range: list[float]
    """Seconds of computing in an epoch, by consecutive range (a tenth) of its steps."""
    peak_host_bytes: float
    peak_device_bytes: float | None


class Epoch(Part):
    """One epoch of a run; evaluation is not counted in its times."""

    epoch: int
    events: int
    validation_ap: float | None
    seconds: float
    """Wall clock of training and validation."""
    train_seconds: float
    train_cpu_seconds: float


class Run(Part):
    """One run. Fields from `date` on are None or empty unless it is done."""

    launcher: Launcher
    workers: int
    batch_size: int
    changes: dict[str, str]
    """Settings that differ from the bench's configuration, batch size and seed aside."""
    seed: int
    repeat: int
    state: State
    fingerprint: str
    error: str | None
    """What a failed run said last."""
    date: str | None = None
    git_commit: str | None = None
    backend: str | None = None
    """gloo or nccl; None for one worker."""
    interfaces: dict[str, str] = {}
    """Variables that chose its network interface."""
    oversubscribed: bool = False
    """Whether workers times threads on one machine were more than its usable cores."""
    figures: dict[str, float | None] = {}
    """By the names in docs/scaling.md."""
    time_to: dict[str, float | None] = {}
    """Seconds of training until validation AP reached each target; None where it never did."""
    epochs: list[Epoch] = []
    shares: list[WorkerShare] = []
    staleness: dict[str, int] = {}
    """Steps by the number of pushes that their read lacked."""


class Point(Part):
    """A setup: all its runs put together."""

    launcher: Launcher
    workers: int
    batch_size: int
    changes: dict[str, str]
    modes: list[Mode]
    """Ways of scaling that it is a point of; empty for a candidate reference."""
    planned: int
    done: int
    diverged: int
    failed: int
    oversubscribed: bool
    stands_in: bool
    """Whether CPU processes stand in for GPUs."""
    figures: dict[str, Interval | None]
    speed_up: Interval | None
    """Events/s over those of the reference in the same round."""
    efficiency: Interval | None
    """Speed-up by worker."""
    time_to: dict[str, Interval | None]
    reached: dict[str, int]
    """Runs that reached each target."""
    shares: list[WorkerShare]
    balance_by_range: list[float]
    """Largest over mean computing of workers, by consecutive range of an epoch's steps."""
    staleness: dict[str, int]


class Candidate(Part):
    """A configuration of one worker."""

    launcher: Launcher
    batch_size: int
    changes: dict[str, str]
    events_per_second: float | None
    test_ap: float | None


class Reference(Part):
    """The fastest configuration of one worker, which efficiency is against."""

    chosen: Candidate | None
    candidates: list[Candidate]


class Observation(Part):
    """A point that a fit was made on."""

    workers: int
    batch_size: int
    x: float
    measured: float
    fitted: float


class Fit(Part):
    """A model fitted by least squares; without parameters where `note` says why not."""

    kind: Literal["amdahl", "communication"]
    launcher: Launcher
    parameters: dict[str, float]
    """amdahl: serial_share. communication: latency_seconds, bytes_per_second."""
    observations: list[Observation]
    largest_residual: float | None
    """Of all observations, relative to what was measured."""
    note: str | None


class Interconnect(Part):
    """What moved between workers, and over what."""

    backends: list[str]
    hosts: list[str]
    interfaces: list[str]
    """Variables that chose a network interface in some run, as NAME=VALUE."""
    gpu_topology: str | None
    """What nvidia-smi says of the links between GPUs."""


class ScalingReport(Part):
    """The whole report."""

    format: Literal["pres_dist.scaling/1"] = VERSION
    name: str
    asked: ScalingConfig
    config: dict[str, Any]
    """The configuration of the bench, resolved; runs change batch size, seed and `changes`."""
    environment: dict[str, Any]
    """Versions, hardware, commit, date and command line of the newest run that is done."""
    written: dict[str, Any]
    """The same of the report itself."""
    interconnect: Interconnect
    targets: dict[str, float]
    """Validation AP of each target."""
    reference: Reference
    points: list[Point]
    fits: list[Fit]
    runs: list[Run]
