"""Schema of report.json of a scaling bench."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pres_dist.bench.run_records import State
from pres_dist.bench.scaling.scaling_config import Launcher, Mode, ScalingConfig

VERSION: Literal["pres_dist.scaling/1"] = "pres_dist.scaling/1"


class Part(BaseModel):
    """A part of the report; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class Interval(Part):
    """Mean and spread of a value over several runs."""

    mean: float
    half: float | None
    """Half the width of the mean's 95% t-interval; None for a single value."""
    count: int
    lowest: float
    highest: float


class WorkerShare(Part):
    """Work of one worker per training step; means over epochs (and runs, in a point)."""

    rank: int
    host: str
    device: str
    """Name of the GPU, or cpu."""
    threads: int
    seconds: dict[str, float]
    """Seconds of a step by stage: sample, pull, compute, push, all_reduce, wait, and other: time
    of training outside of all stages, mostly for checkpoints."""
    local_bytes: float
    """Bytes of node state read and written in a step within the process."""
    remote_bytes: float
    """Bytes of node state exchanged with other workers in a step."""
    gradient_bytes: float
    """Bytes sent in a step for the all-reduce of gradients."""
    compute_by_range: list[float]
    """Compute seconds in an epoch, by consecutive range (a tenth) of its steps."""
    peak_host_bytes: float
    peak_device_bytes: float | None


class Epoch(Part):
    """One epoch of a run; evaluation is not counted in its times."""

    epoch: int
    events: int
    validation_ap: float | None
    seconds: float
    """Wall-clock seconds of training and validation."""
    train_seconds: float
    train_cpu_seconds: float


class SetupPart(Part):
    """A compared setup."""

    launcher: Launcher
    workers: int
    batch_size: int
    changes: dict[str, str]
    """Settings that differ from the bench's configuration, except batch size and seed."""


class Run(SetupPart):
    """One run. Fields from `date` on are None or empty unless it is done."""

    seed: int
    repeat: int
    state: State
    fingerprint: str
    error: str | None
    """Last lines of a failed run's log."""
    date: str | None = None
    git_commit: str | None = None
    backend: str | None = None
    """gloo or nccl; None for one worker."""
    interfaces: dict[str, str] = {}
    """Environment variables that select the network interface."""
    oversubscribed: bool = False
    """True if workers times threads on a machine exceeded its usable cores."""
    figures: dict[str, float | None] = {}
    """Figures by the names in docs/reference/scaling_report.md."""
    time_to: dict[str, float | None] = {}
    """Seconds of training until validation AP reached each target; None if it never did."""
    epochs: list[Epoch] = []
    shares: list[WorkerShare] = []
    staleness: dict[str, int] = {}
    """Number of steps by the number of pushes missing from their read."""

    @property
    def label(self) -> str:
        """Name that identifies the run within its bench."""
        changed = "".join(f"-{name}={value}" for name, value in self.changes.items())
        place = f"{self.launcher}-w{self.workers}-b{self.batch_size}{changed}"
        return f"{place}-s{self.seed}-r{self.repeat}"


class Point(SetupPart):
    """A setup, aggregated over its runs."""

    modes: list[Mode]
    """Scaling modes that it is a point of; empty for a candidate reference."""
    planned: int
    done: int
    diverged: int
    failed: int
    oversubscribed: bool
    stands_in: bool
    """True if the workers were CPU processes in place of GPUs."""
    figures: dict[str, Interval | None]
    speed_up: Interval | None
    """Events/s relative to the reference in the same round."""
    efficiency: Interval | None
    """Speed-up divided by the number of workers."""
    time_to: dict[str, Interval | None]
    reached: dict[str, int]
    """Number of runs that reached each target."""
    shares: list[WorkerShare]
    balance_by_range: list[float]
    """Largest compute time of a worker relative to the mean, by range of an epoch's steps."""
    staleness: dict[str, int]


class Candidate(Part):
    """A configuration of one worker."""

    launcher: Launcher
    batch_size: int
    changes: dict[str, str]
    events_per_second: float | None
    test_ap: float | None


class Reference(Part):
    """Fastest configuration of one worker, the baseline of efficiency."""

    chosen: Candidate | None
    candidates: list[Candidate]


class Observation(Part):
    """A point used in a fit."""

    workers: int
    batch_size: int
    x: float
    measured: float
    fitted: float


class Fit(Part):
    """A model fitted by least squares; without parameters, `note` gives the reason."""

    kind: Literal["amdahl", "communication"]
    launcher: Launcher
    parameters: dict[str, float]
    """amdahl: serial_share. communication: latency_seconds, bytes_per_second."""
    observations: list[Observation]
    largest_residual: float | None
    """Largest residual of all observations, relative to the measured value."""
    note: str | None


class Interconnect(Part):
    """Communication backends and network links of the workers."""

    backends: list[str]
    hosts: list[str]
    interfaces: list[str]
    """Environment variables that select a network interface in any run, as NAME=VALUE."""
    gpu_topology: str | None
    """Output of nvidia-smi on the links between GPUs."""


class ScalingReport(Part):
    """Complete report of a scaling bench."""

    format: Literal["pres_dist.scaling/1"] = VERSION
    name: str
    asked: ScalingConfig
    config: dict[str, Any]
    """Resolved configuration of the bench; runs change batch size, seed and `changes`."""
    environment: dict[str, Any]
    """Versions, hardware, commit, date and command line of the newest finished run."""
    written: dict[str, Any]
    """The same for the process that wrote the report."""
    interconnect: Interconnect
    targets: dict[str, float]
    """Validation AP of each target."""
    reference: Reference
    points: list[Point]
    fits: list[Fit]
    runs: list[Run]
