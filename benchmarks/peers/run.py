"""Training speed of pres_dist and of other systems, interleaved in one run.

    python -m venv peers && peers/bin/pip install -r benchmarks/peers/requirements.txt
    python benchmarks/peers/run.py data/wikipedia --peers-python peers/bin/python --out peers.json

Every system trains the same TGN on the same events, in processes of its own, one at a
time, so that the machine's moods meet all of them. A stream without edge features gets
172 random ones, as many as published figures for wikipedia have. Rates are of training
alone, medians over all epochs; a ratio is of epochs of one round, which ran close to
each other in time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pres_dist.events.stream import EventStream
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment

HERE = Path(__file__).parent
OURS, DEFAULTS = "pres_dist", "pres_dist-defaults"
SYSTEMS = {OURS: "ours.py", DEFAULTS: "ours.py", "pyg": "pyg.py", "tgm": "tgm_tgn.py"}
_SAME_TRAINING = [name for name in SYSTEMS if name != DEFAULTS]
RANDOM_FEATURES = 172
RESULT = "measured: "

Results = dict[int, dict[str, list[dict[str, Any]]]]


def main() -> None:
    arguments = _parser().parse_args()
    stream = _with_features(arguments.stream, arguments.work)
    results: Results = {batch: {name: [] for name in SYSTEMS} for batch in arguments.batches}
    for number in range(arguments.repeats):
        for batch in arguments.batches:
            for system in arguments.systems:
                done = _run(system, stream, batch, number, arguments)
                results[batch][system].append(done)
                rates = [round(done["events"] / epoch["seconds"]) for epoch in done["epochs"]]
                print(f"round {number + 1}, batch {batch}, {system}: {rates}", file=sys.stderr)
                _save(arguments, results)
    print(table(results, arguments.targets))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stream", type=Path, help="folder of a native stream")
    parser.add_argument("--peers-python", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", default=_SAME_TRAINING, choices=list(SYSTEMS))
    parser.add_argument("--batches", type=int, nargs="+", default=[200, 600, 2000, 4000, 16000])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-events", type=int, default=160000)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.97, 0.98])
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("--out", type=Path, default=Path("runs/peers/peers.json"))
    return parser


def _with_features(folder: Path, work: Path) -> Path:
    """The stream itself, or a copy of it with random edge features."""
    stream = EventStream.open(folder)
    if stream.edge_features is not None:
        return folder
    copy = work / f"{stream.name}-{RANDOM_FEATURES}"
    if not copy.exists():
        shape = (stream.num_events, RANDOM_FEATURES)
        features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        copy.parent.mkdir(parents=True, exist_ok=True)
        replace(stream, edge_features=features, path=None).save(copy)
    return copy


def _run(
    system: str, stream: Path, batch: int, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One training in a process of its own."""
    python = sys.executable if system in (OURS, DEFAULTS) else str(arguments.peers_python)
    command = [python, str(HERE / SYSTEMS[system]), str(stream), "--batch", str(batch)]
    for name in ("epochs", "threads", "max_events"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    command += ["--defaults"] if system == DEFAULTS else []
    begun = time.monotonic()
    done = subprocess.run([*command, "--seed", str(seed)], capture_output=True, text=True)
    spent = time.monotonic() - begun
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not lines:
        sys.exit(f"{system} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(lines[0].removeprefix(RESULT))
    return {**result, "process_seconds": spent}


def _save(arguments: argparse.Namespace, results: Results) -> None:
    settings = {name: str(value) for name, value in vars(arguments).items()}
    report = {"settings": settings, "environment": describe_environment(0), "results": results}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out, json.dumps(report))


def table(results: Results, targets: Sequence[float]) -> str:
    """Markdown: rates, CPU time, memory, seconds of the process and to each validation AP."""
    reached = "".join(f" s to AP {target} |" for target in targets)
    head = (
        "| batch | system | events/s | ours / theirs | CPU us an event | peak MiB | AP "
        "| process s |" + reached
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for batch, systems in results.items():
        for system, runs in systems.items():
            if runs:
                lines.append(_row(batch, system, runs, systems[OURS], targets))
    return "\n".join(lines)


def _row(
    batch: int,
    system: str,
    runs: list[dict[str, Any]],
    ours: list[dict[str, Any]],
    targets: Sequence[float],
) -> str:
    rate = statistics.median(_rates(runs))
    ratios = sorted(
        statistics.median(_rates([one])) / statistics.median(_rates([other]))
        for one, other in zip(ours, runs, strict=False)
    )
    ratio = (
        ""
        if system == OURS or not ratios
        else (f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    )
    cpu = statistics.median(
        epoch["cpu_seconds"] / run["events"] for run in runs for epoch in run["epochs"]
    )
    rss = max(run["peak_rss"] for run in runs) / 2**20
    process = statistics.median(run["process_seconds"] for run in runs)
    ap = statistics.median(max(e["validation_ap"] for e in run["epochs"]) for run in runs)
    reached = "".join(f" {_reached(runs, target)} |" for target in targets)
    return (
        f"| {batch:,} | {system} | {rate:,.0f} | {ratio} | {cpu * 1e6:.0f} | {rss:,.0f} "
        f"| {ap:.4f} | {process:.0f} |{reached}"
    )


def _rates(runs: list[dict[str, Any]]) -> list[float]:
    return [run["events"] / epoch["seconds"] for run in runs for epoch in run["epochs"]]


def _reached(runs: list[dict[str, Any]], target: float) -> str:
    """Median seconds of training until an epoch ends at the target or above."""
    times = [_seconds_to(run, target) for run in runs]
    if None in times:
        return "not reached"
    return f"{statistics.median(time for time in times if time is not None):.0f}"


def _seconds_to(run: dict[str, Any], target: float) -> float | None:
    spent = 0.0
    for epoch in run["epochs"]:
        spent += epoch["seconds"]
        if epoch["validation_ap"] >= target:
            return spent
    return None


if __name__ == "__main__":
    main()
