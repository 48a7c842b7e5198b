"""A scaling bench whose runs are made up: times and bytes follow models that are planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.scaling.scaling_config import ScalingConfig
from pres_dist.bench.scaling.scaling_spec import ScalingRun, ScalingSpec

EVENTS, EPOCHS = 48_000, 3
STAGES = ("sample", "pull", "compute", "push", "all_reduce", "wait")
CONFIG = """
name: made-up
data: {stream: made-up}
training: {batch_size: 1000, epochs: 3}
"""
VALIDATION_AP = (0.90, 0.94, 0.96)


@dataclass
class World:
    """Laws of the made-up runs; every time is multiplied by `noise` of the run.

    Attributes:
        serial, parallel: microseconds an event (Amdahl).
        latency, bandwidth: seconds a step, bytes a second.
        cores: of the machine.
        cpu_share: CPU seconds of a worker by second.
        ap: test AP of a run.
    """

    serial: float = 20.0
    parallel: float = 80.0
    latency: float = 0.002
    bandwidth: float = 1e9
    cores: int = 64
    cpu_share: float = 1.1
    device: str = "cpu"
    noise: Callable[[ScalingRun], float] = field(default=lambda run: 1 + 0.01 * run.seed)
    ap: Callable[[ScalingRun], float] = field(default=lambda run: 0.95 + 0.001 * run.seed)

    def seconds(self, run: ScalingRun) -> float:
        """Of training, an epoch. Larger batches are faster, by the root of the root."""
        by_batch = (1000 / run.setup.batch_size) ** 0.25
        each = self.serial + self.parallel / run.setup.workers
        return EVENTS * each * 1e-6 * by_batch * self.noise(run)


def make_plan(folder: Path, *overrides: str, **asked: Any) -> ScalingSpec:
    path = folder / "made-up.yaml"
    path.write_text(CONFIG)
    return ScalingSpec(ScalingConfig(**asked), path, overrides)


def make_ledger(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.create()
    return ledger


def play(plan: ScalingSpec, ledger: Ledger, world: World) -> None:
    """Leave every run of a plan as if it had been run."""
    for run in plan.runs():
        play_run(run, ledger, world)


def play_run(run: ScalingRun, ledger: Ledger, world: World) -> Path:
    """Leave one run's folder."""
    ledger.command(run)
    ledger.attempt_begins(run)
    folder = ledger.run_dir(run)
    folder.mkdir()
    metrics = {"ap": world.ap(run), "auc": 0.97, "mrr": 0.7, "num_events": 100}
    results = {"validation": {"ap": max(VALIDATION_AP)}, "test": metrics, "best_epoch": EPOCHS}
    environment = {
        "date": "2026-11-26T10:00:00+00:00",
        "git_commit": "abc",
        "interfaces": {"GLOO_SOCKET_IFNAME": "lo"},
        "versions": {"pres_dist": "0.1.0"},
        "hardware": {"cpu": "made-up", "usable_cores": world.cores},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    epochs = [_epoch(run, world, number) for number in range(1, EPOCHS + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in epochs))
    (folder / "results.json").write_text(json.dumps({**results, "seconds": 100.0}))
    ledger.attempt_ended(run, "done", returncode=0, seconds=100.0, cpu_seconds=90.0)
    return folder


def fail_run(run: ScalingRun, ledger: Ledger, said: str) -> None:
    """Leave a run that has failed."""
    ledger.command(run)
    ledger.attempt_begins(run)
    ledger.run_dir(run).mkdir()
    ledger.file(run, ".log").write_text(said)
    ledger.attempt_ended(run, "failed", returncode=1, seconds=1.0, cpu_seconds=1.0)


def _epoch(run: ScalingRun, world: World, number: int) -> dict[str, Any]:
    seconds, steps = world.seconds(run), EVENTS // run.setup.batch_size
    workers = [_worker(run, world, rank, seconds, steps) for rank in range(run.setup.workers)]
    return {
        "kind": "epoch",
        "step": number * steps,
        "epoch": number,
        "optimizer_steps": number * steps,
        "loss": 0.3,
        "gate": 0.8,
        "coherence": 0.9,
        "prediction_error": 0.3,
        "persistence_error": 0.2,
        "pending_events_mean": 2.5,
        "pending_events_max": 40 + number,
        "pending_share": 0.5,
        "events_per_second": EVENTS / seconds,
        "events_per_cpu_second": EVENTS / sum(worker["cpu_seconds"] for worker in workers),
        "seconds": seconds + 5,
        "backend": "gloo" if run.setup.workers > 1 else None,
        "workers": workers,
        "staleness": {"0": 1, "1": steps - 1},
        "validation": {"ap": VALIDATION_AP[number - 1]},
    }


def _worker(run: ScalingRun, world: World, rank: int, seconds: float, steps: int) -> dict[str, Any]:
    several = run.setup.workers > 1
    state, gradients = (
        (600 * run.setup.batch_size // run.setup.workers, 400_000)
        if several
        else (
            0,
            0,
        )
    )
    moving = world.latency + (state + gradients) / world.bandwidth
    stages = dict.fromkeys(STAGES, 0.0) | {"compute": seconds * 0.5 * (1 + rank)}
    stages |= {"pull": steps * moving / 2, "push": steps * moving / 4}
    stages |= {"all_reduce": steps * moving / 4}
    nothing = {"local_rows": 0, "remote_rows": 0, "local_bytes": 0, "remote_bytes": 0}
    pull = nothing | {"local_bytes": 500_000 * steps, "remote_bytes": state * steps}
    on_gpu = world.device != "cpu"
    return {
        "rank": rank,
        "host": "one",
        "device": world.device,
        "threads": 1,
        "seconds": stages,
        "compute_by_range": [stages["compute"] / 10] * 10,
        "cpu_seconds": world.cpu_share * seconds,
        "peak_rss_bytes": 400_000_000 + rank,
        "peak_device_bytes": 2_000_000_000 if on_gpu else None,
        "gradient_bytes": gradients * steps,
        "traffic": {"pull": pull, "push": nothing, "observe": nothing},
    }
