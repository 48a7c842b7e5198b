"""The results in benchmarks/results are those of the sweeps in configs/bench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.read_reports import read_scaling
from pres_dist.bench.sweep_file import load_sweep
from pres_dist.bench.sweep_report import known_runs
from pres_dist.bench.sweep_runs import first_runs, other_runs

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
SCALING = sorted((ROOT / "benchmarks" / "results").glob("scaling/*.json"))
SWEEPS = [path for path in RESULTS if "cells" in json.loads(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", SCALING, ids=lambda path: path.stem)
def test_the_kept_scaling_reports_can_be_read(path: Path) -> None:
    report = read_scaling(path)
    assert {1, 2} <= {point.workers for point in report.points} or path.stem == "weak"
    assert {run.state for run in report.runs} == {"done"}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_runs_of_the_first_seed_are_known(path: Path, tmp_path: Path) -> None:
    sweep = load_sweep(ROOT / "configs" / "bench" / f"{path.stem}.yaml")
    ledger = Ledger(tmp_path, known_runs([path]))
    tasks = first_runs(sweep, {})
    assert [task.key for task in tasks if ledger.state(task) != "done"] == []


def test_the_runs_of_the_decoders_are_of_their_sweep() -> None:
    content = json.loads((ROOT / "benchmarks/results/decoders.json").read_text(encoding="utf-8"))
    sweep = load_sweep(ROOT / "configs/bench/decoders.yaml")
    untuned = dict.fromkeys(sweep.cells, sweep.grid[0])
    tasks = [*first_runs(sweep, {}), *other_runs(sweep, untuned, {})]
    known = {task.fingerprint for task in tasks}
    assert content["runs"]
    assert {run["fingerprint"] for run in content["runs"]} <= known
