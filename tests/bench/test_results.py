"""The results in benchmarks/results are those of the sweeps in configs/bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from pres_dist.bench.ledger import Ledger
from pres_dist.bench.load import load_sweep
from pres_dist.bench.report import known_runs
from pres_dist.bench.sweep import first_tasks

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_runs_of_the_first_seed_are_known(path: Path, tmp_path: Path) -> None:
    sweep = load_sweep(ROOT / "configs" / "bench" / f"{path.stem}.yaml")
    ledger = Ledger(tmp_path, known_runs([path]))
    tasks = first_tasks(sweep, {})
    assert [task.key for task in tasks if ledger.state(task) != "done"] == []
