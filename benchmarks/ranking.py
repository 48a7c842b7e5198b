"""Accuracy against every kind of negatives, and ranking, for the runs of a sweep.

    python benchmarks/ranking.py configs/bench/decoders.yaml --out decoders.json

Trains each run of the sweep and evaluates it against random, historical and inductive negatives
(`pres-dist evaluate --all-negatives`). With `--rank` it also ranks the destinations of sampled test
events (`pres-dist bench ranking`). The baselines of each stream stand beside them. Runs that the
output file has already are skipped, so an interrupted command goes on where it was, and several
commands may fill one file.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pres_dist.bench.run_records import read_record
from pres_dist.bench.sweep_file import load_sweep
from pres_dist.bench.sweep_runs import first_runs, other_runs, parse_only
from pres_dist.bench.sweep_spec import SweepRun
from pres_dist.config.load import dump_yaml
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], help="as in bench batch-size")
    parser.add_argument("--rank", action="store_true", help="also run bench ranking")
    arguments = parser.parse_args()
    sweep = load_sweep(arguments.sweep)
    if len(sweep.grid) > 1:
        sys.exit(f"{arguments.sweep}: tuning.grid must be empty here")
    only = parse_only(sweep, arguments.only)
    untuned = dict.fromkeys(sweep.cells, sweep.grid[0])
    for run in first_runs(sweep, only) + other_runs(sweep, untuned, only):
        with _results(arguments.out) as results:
            done = run.fingerprint in {row["fingerprint"] for row in results["runs"]}
            scored = run.cell.stream in results["baselines"]
        if done:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            baselines = {} if scored else {run.cell.stream: _baselines(run, Path(scratch))}
            row = _measure(run, Path(scratch), arguments.rank)
        with _results(arguments.out) as results:
            results["baselines"] |= baselines
            results["sweep"] = sweep.config.model_dump(mode="json")
            results["environment"] = describe_environment(sweep.config.seeds[0])
            results["runs"].append(row)
            write_atomically(arguments.out, json.dumps(results, indent=1) + "\n")
        print(run.label, round(row["negatives"]["random"]["ap"], 4), flush=True)


@contextmanager
def _results(path: Path) -> Iterator[dict[str, Any]]:
    """Read the output file, which no other command can read or write until the block ends."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield json.loads(path.read_text()) if path.exists() else {"runs": [], "baselines": {}}


def _baselines(run: SweepRun, scratch: Path) -> dict[str, Any]:
    """Score the baselines; return AP and MRR on the test split, by negatives and name."""
    file = scratch / "config.yaml"
    file.write_text(dump_yaml(run.config))
    by_kind = json.loads(_pres_dist("baselines", file, "--json"))
    return {
        kind: {
            name: {figure: of[figure] for figure in ("ap", "mrr")}
            for name, of in result["test"]["baselines"].items()
        }
        for kind, result in by_kind.items()
    }


def _measure(run: SweepRun, scratch: Path, rank: bool) -> dict[str, Any]:
    """Train, evaluate and rank; return the figures of the test split."""
    file, folder, ranking = scratch / "config.yaml", scratch / "run", scratch / "ranking.json"
    file.write_text(dump_yaml(run.config))
    before = os.times().children_user
    _pres_dist("train", file, "--run-dir", folder)
    spent = os.times().children_user - before
    _pres_dist("evaluate", folder, "--all-negatives", "--evaluation.baselines=false")
    if rank:
        _pres_dist("bench", "ranking", folder, "--json", ranking)
    record = read_record(folder, "done", [])
    by_kind = json.loads((folder / "evaluation.json").read_text())
    row = {**vars(run.cell), "seed": run.seed, "fingerprint": run.fingerprint}
    row |= {name: record[name] for name in ("optimizer_steps", "git_commit", "date")}  # type: ignore[literal-required]
    row |= {"train_cpu_seconds": round(spent, 1)}
    row["validation_ap"] = [epoch["validation_ap"] for epoch in record["epochs"]]
    row["negatives"] = {kind: _figures(result["test"]) for kind, result in by_kind.items()}
    if rank:
        [page] = json.loads(ranking.read_text())
        row["ranking"] = {name: page[name] for name in ("candidates", "num_events", "ranked")}
    return row


def _figures(split: dict[str, Any]) -> dict[str, Any]:
    """Return AP and MRR of a split, and of its events with a node that training never saw."""
    unseen = split.get("inductive") or {}
    figures = {name: split[name] for name in ("num_events", "ap", "mrr", "negatives_found")}
    return figures | {"unseen": {name: unseen.get(name) for name in ("num_events", "ap", "mrr")}}


def _pres_dist(*arguments: str | Path) -> str:
    """Run a command of pres-dist; return its output."""
    command = [sys.executable, "-m", "pres_dist", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
