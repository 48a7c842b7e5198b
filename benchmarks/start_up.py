"""Waiting time of a user: for `pres-dist --help`, and for the first training step of a run.

    python benchmarks/start_up.py configs/flights3m.yaml

Medians of `--repeats` processes, each of which the second time on finds its files in the page
cache. Training is ended by a fault, which kills the process right after its first step. More
options go to the run: --data.stream data/flights3m. With `--out` the figures are also written as
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment

sys.path.append(str(Path(__file__).parents[1]))

from tests.support.fault_plan import FaultPlan

GOALS = {"help": 0.3, "first step": 10.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    arguments, overrides = parser.parse_known_args()
    train = ["train", str(arguments.config), *overrides]
    found = {
        "help": [_spent(["--help"], 0) for _ in range(arguments.repeats)],
        "first step": [_until_first_step(train) for _ in range(arguments.repeats)],
    }
    figures = {name: _medians(spent) for name, spent in found.items()}
    print("| | seconds | CPU seconds | peak MiB | goal, seconds |\n|---|---|---|---|---|")
    for name, each in figures.items():
        cells = [f"{each[key]:.2f}" for key in ("seconds", "cpu_seconds")]
        print(f"| {name} | {' | '.join(cells)} | {each['peak_mib']:.0f} | {GOALS[name]:g} |")
    if arguments.out is not None:
        record: dict[str, Any] = {"figures": figures, "runs": found}
        record |= {"options": train, "environment": describe_environment(seed=0)}
        write_atomically(arguments.out, json.dumps(record, indent=1) + "\n")


def _until_first_step(command: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        plan = FaultPlan().kill(rank=0, place="after_step")
        faults = plan.environment(Path(folder) / "faults")
        run_dir = ["--run-dir", str(Path(folder) / "run")]
        return _spent([*command, *run_dir], -signal.SIGKILL, faults)


def _spent(
    command: list[str], expected: int, variables: dict[str, str] | None = None
) -> dict[str, float]:
    """Seconds, CPU seconds and memory of a command that must end in the expected way."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pres_dist", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | (variables or {}),
    )
    assert process.stderr is not None
    told = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != expected:
        raise SystemExit(f"error: {command} ended with {process.returncode}:\n{told}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": usage.ru_maxrss / 1024}


def _medians(spent: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in spent) for name in spent[0]}


if __name__ == "__main__":
    main()
