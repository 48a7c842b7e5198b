"""Cost of a stream's length: its adjacency, and a training step in its middle.

    python benchmarks/stream_length.py --events 1000000 10000000 100000000

Makes synthetic streams of so many events between as many nodes, which differ in length alone,
builds the adjacency of each in a file with `--memory-mib` for its keys, opens it again, sorts it in
memory for comparison, and trains some steps in the middle of the training split. Everything is
measured in a process of its own, on one thread. Private memory is what a process shares with no
other: that of the memory-mapped stream and adjacency stays out of it. Needs 40 bytes of disk an
event, and takes more options for the run: --memory.dim 50. With `--out` the figures are also
written as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pres_dist.config.load import load_config
from pres_dist.events.stream import EventStream
from pres_dist.files import write_atomically
from pres_dist.parallel.world import World
from pres_dist.planner.footprint import row_bytes
from pres_dist.report.environment import describe_environment
from pres_dist.sampling.sorted_keys import HalfEdges
from pres_dist.sampling.stored_keys import stored_keys
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import Parts, assembled, choose_device
from pres_dist.training.step import TrainingStep
from pres_dist.training.timing import peak_rss_bytes

MIB = 2**20
WARM_UP = 40
"""Steps that fill memory and mail of the busiest nodes before any is measured."""
GOAL = 1.3

Figures = dict[str, Any]


def main() -> None:
    arguments, overrides = _arguments()
    if arguments.part is not None:
        print(json.dumps(PARTS[arguments.part](arguments, overrides)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        rows = [_built(Path(folder) / str(events), arguments) for events in arguments.events]
        for round_ in range(arguments.rounds):  # in turns: a busy machine has bad moments
            for row in rows:
                of = ["--part", "steps", "--stream", str(Path(folder) / str(row["events"]))]
                _tell(f"{row['events']:,} events: steps, round {round_ + 1}")
                row["rounds"].append(_in_a_process([*of, *overrides], arguments))
    for row in rows:
        rounds = row.pop("rounds")
        row["steps"] = _summed(rounds) if rounds else None
    print("\n".join(_table(rows)))
    if arguments.out is not None:
        record = {"options": vars(arguments) | {"overrides": overrides}, "lengths": rows}
        record["environment"] = describe_environment(seed=0)
        write_atomically(arguments.out, json.dumps(record, indent=1, default=str) + "\n")


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[10**6, 10**7, 10**8])
    parser.add_argument("--nodes", type=int, default=100_000, help="half of them users, half items")
    parser.add_argument("--batch-size", type=int, default=2000)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--steps", type=int, default=60, help="measured in the middle")
    parser.add_argument("--rounds", type=int, default=2, help="0: no steps")
    parser.add_argument("--memory-mib", type=int, default=256, help="for keys, to build")
    parser.add_argument("--directory", help="where to put the temporary directory")
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    return parser.parse_known_args()


def _built(path: Path, arguments: argparse.Namespace) -> Figures:
    """Make a stream and its adjacency, twice and once more in memory."""
    events = int(path.name)
    _tell(f"{events:,} events")
    half = str(arguments.nodes // 2)
    command = [sys.executable, "-m", "pres_dist", "data", "synthesize", "--out", str(path)]
    command += ["--events", str(events), "--users", half, "--items", half]
    subprocess.run(command, check=True, stdout=sys.stderr)
    stored = sum(file.stat().st_size for file in path.iterdir())
    row: Figures = {"events": events, "stream_bytes": stored, "rounds": []}
    for name, part in (("build", "keys"), ("open", "keys"), ("in_memory", "sorted")):
        _tell(f"{events:,} events: {name}")
        row[name] = _in_a_process(["--part", part, "--stream", str(path)], arguments)
    row["adjacency_bytes"] = sum(file.stat().st_size for file in path.iterdir()) - stored
    return row


def _in_a_process(options: list[str], arguments: argparse.Namespace) -> Figures:
    passed = ("memory_mib", "batch_size", "preset", "steps")
    same = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in passed]
    command = [sys.executable, __file__, *same, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _keys(arguments: argparse.Namespace, overrides: list[str]) -> Figures:
    """Make the file of sorted keys, or open the one that is there."""
    stream = EventStream.open(arguments.stream)
    with _measured() as figures:
        keys = stored_keys(HalfEdges(stream), [arguments.stream], arguments.memory_mib * MIB)
    return figures | {"half_edges": keys.size}


def _sorted(arguments: argparse.Namespace, overrides: list[str]) -> Figures:
    stream = EventStream.open(arguments.stream)
    with _measured() as figures:
        HalfEdges(stream).sorted()
    return figures


def _steps(arguments: argparse.Namespace, overrides: list[str]) -> Figures:
    """Steps in the middle of the training split, from empty memory and a warm-up."""
    options = [f"--data.stream={arguments.stream}", f"--preset={arguments.preset}"]
    options += [f"--training.batch_size={arguments.batch_size}", "--sampling.adjacency=disk"]
    options += ["--training.num_threads=1", "--training.device=cpu", *overrides]
    config = load_config(None, options)
    with _measured() as figures, assembled(config, choose_device(config), World()) as parts:
        figures["steps"] = list(_run(parts, arguments.steps))
        figures["node_bytes"] = row_bytes(config).state
    return figures


def _run(parts: Parts, num: int) -> Iterator[Figures]:
    step = TrainingStep(parts)
    parts.model.train()
    first = step.schedule.num_steps // 2
    for number in range(max(first - WARM_UP, 0), min(first + num, step.schedule.num_steps)):
        wall, cpu = time.perf_counter(), time.process_time()
        inputs = step.prepare(StepIndex(1, number))
        step.run(inputs)
        spent = {"ms": time.perf_counter() - wall, "cpu_ms": time.process_time() - cpu}
        if number >= first:
            yield {name: 1e3 * s for name, s in spent.items()} | {
                "nodes": inputs.plan.nodes_V.numel()
            }


PARTS = {"keys": _keys, "sorted": _sorted, "steps": _steps}


@contextmanager
def _measured() -> Iterator[Figures]:
    """Seconds of the block, and the most memory of this process while it runs, in MiB."""
    torch.set_num_threads(1)
    figures: Figures = {}
    ended, most = threading.Event(), [_private_bytes()]

    def watch() -> None:
        while not ended.wait(0.01):
            most[0] = max(most[0], _private_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wall, cpu, before = time.perf_counter(), time.process_time(), most[0]
    yield figures
    figures["seconds"] = time.perf_counter() - wall
    figures["cpu_seconds"] = time.process_time() - cpu
    ended.set()
    watcher.join()
    figures["private_before_mib"] = before / MIB
    figures["private_mib"] = most[0] / MIB
    figures["resident_mib"] = peak_rss_bytes() / MIB


def _private_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def _summed(rounds: list[Figures]) -> Figures:
    """Medians over the steps of a round, and of these the round with the least CPU time."""
    found = [
        {
            **{name: statistics.median(step[name] for step in each["steps"]) for name in names},
            **{name: value for name, value in each.items() if name != "steps"},
        }
        for each in rounds
        for names in [("ms", "cpu_ms", "nodes")]
    ]
    best = min(found, key=lambda each: float(each["cpu_ms"]))
    return best | {"cpu_ms_of_rounds": [each["cpu_ms"] for each in found]}


_BUILD_HEAD = [
    "events",
    "build, s",
    "CPU s",
    "private MiB",
    "resident MiB",
    "open again, s",
    "in memory, CPU s",
    "private MiB",
    "bytes an event on disk: stream",
    "adjacency",
]
_STEP_FORMS = [("ms", ".1f"), ("nodes", ",.0f"), ("private_mib", ",.0f")]
_STEP_HEAD = ["step, CPU ms", "to the first", "ms", "nodes a step", "run, private MiB"]


def _table(rows: list[Figures]) -> list[str]:
    head = _BUILD_HEAD + (_STEP_HEAD if rows[0]["steps"] else [])
    first = rows[0]["steps"]["cpu_ms"] if rows[0]["steps"] else 1.0
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        build, again, memory, steps = (row[n] for n in ("build", "open", "in_memory", "steps"))
        cells = [
            f"{row['events']:,}",
            f"{build['seconds']:.1f}",
            f"{build['cpu_seconds']:.1f}",
            f"{build['private_mib']:,.0f}",
            f"{build['resident_mib']:,.0f}",
            f"{again['seconds']:.1f}",
            f"{memory['cpu_seconds']:.1f}",
            f"{memory['private_mib']:,.0f}",
            f"{row['stream_bytes'] / row['events']:.1f}",
            f"{row['adjacency_bytes'] / row['events']:.1f}",
        ]
        if steps:
            cells += [f"{steps['cpu_ms']:.1f}", f"{steps['cpu_ms'] / first:.2f}"]
            cells += [f"{steps[name]:{form}}" for name, form in _STEP_FORMS]
        lines.append(f"| {' | '.join(cells)} |")
    before = rows[0]["build"]["private_before_mib"]
    lines += [
        "",
        f"a process that has only imported what it needs has {before:,.0f} MiB of its own",
    ]
    if rows[0]["steps"]:
        ratios = [row["steps"]["cpu_ms"] / first for row in rows]
        reached = "reached" if max(ratios) / min(ratios) <= GOAL else "missed"
        lines.append(f"{rows[0]['steps']['node_bytes']:,} bytes of state a node")
        lines.append(f"goal, step times within {GOAL} of each other: {reached}")
    return lines


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
