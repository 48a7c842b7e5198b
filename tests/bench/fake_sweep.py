"""A small sweep, and a program that pretends to train its runs."""

from __future__ import annotations

import sys
from pathlib import Path

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.runner import Runner, Tell
from pres_dist.bench.sweep_cells import BySeed
from pres_dist.bench.sweep_file import load_sweep
from pres_dist.bench.sweep_spec import SweepRun, SweepSpec

SWEEP = """
name: small
base: {training: {epochs: 2, num_threads: 1}}
streams: {a: {data: {stream: a}}, b: {data: {stream: b}}}
batch_sizes: [100, 400, 1600]
methods:
  none: {pres: {prediction: false, coherence_weight: 0}}
  full: {}
baseline: none
seeds: [0, 1]
"""

TRAIN = """
import json, os, pathlib, shutil, sys, time

command, *arguments = sys.argv[1:]
folder = pathlib.Path(arguments[0] if command == "resume" else arguments[2])
behavior = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
how = next((value for name, value in behavior.items() if name in folder.name), "done")
if command == "train":
    folder.mkdir()
    shutil.copy(arguments[0], folder / "config.yaml")
with (folder / "commands").open("a") as file:
    file.write(command + "\\n")
if how == "hangs":
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "LATEST").touch()
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(60)
if how == "waits":
    while not list(folder.parent.glob("*/pid")):
        time.sleep(0.01)
    how = "done"
if how != "done":
    sys.exit(how)
metrics = {"ap": 0.9, "auc": 0.9, "mrr": 0.5}
(folder / "results.json").write_text(json.dumps(
    {"validation": metrics, "test": metrics, "best_epoch": 1, "seconds": 1.0}
))
"""
"""Ends as its .json says of the run's name: by an exit code, not at all (`hangs`), or once
another hangs (`waits`)."""


def small_sweep(folder: Path, text: str = SWEEP) -> SweepSpec:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return load_sweep(path)


def fake_program(folder: Path, behavior: str = "{}") -> list[str]:
    """Write a program that stands for `pres-dist`; `behavior` as in TRAIN."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "train.json").write_text(behavior)
    return [sys.executable, "-S", str(folder / "train.py")]


class Told(list[tuple[str, str]]):
    """Collects what a runner tells."""

    def __call__(self, task: SweepRun, event: str) -> None:
        self.append((task.label, event))


def make_ledger(folder: Path) -> Ledger:
    ledger = Ledger(folder / "out")
    ledger.create()
    return ledger


def make_runner(ledger: Ledger, program: list[str], tell: Tell, jobs: int = 2) -> Runner:
    return Runner(ledger, jobs, 0, tell, program)


def record(ap: float | None, state: str = "done", **changes: object) -> dict[str, object]:
    """A run's figures, with three epochs of 10 CPU seconds."""
    validation = [0.90, 0.94, 0.96]
    epochs = [
        {
            "epoch": number,
            "validation_ap": value,
            "train_seconds": 12.0,
            "train_cpu_seconds": 10.0,
            "events_per_second": 900.0,
            "events_per_cpu_second": 1000.0,
            "gate": 0.8 + number / 100,
            "coherence": 0.9,
            "prediction_ratio": 1.5,
            "pending_events_mean": 2.0,
            "pending_share": 0.5,
        }
        for number, value in enumerate(validation, start=1)
    ]
    metrics = {"ap": ap, "auc": ap, "mrr": ap}
    return {
        "state": state,
        "run": "run",
        "validation": {**metrics, "ap": 0.96 if state == "done" else None},
        "test": metrics,
        "best_epoch": 3 if state == "done" else None,
        "seconds": 40.0,
        "cpu_seconds": 35.0,
        "optimizer_steps": 300,
        "epochs": epochs if state == "done" else [],
        "git_commit": "abc",
        "date": "2026-11-25",
        "attempts": 1,
        **changes,
    }


def by_seed(*aps: float) -> BySeed:
    return {seed: record(ap) for seed, ap in enumerate(aps)}
