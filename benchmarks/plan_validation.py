r"""Compare what the planner predicts of a step with what `pres-dist bench scaling` measured.

    pres-dist bench scaling configs/quickstart.yaml --preset paper --pres.clock log \
        --workers 1,2,4,8 --parallel.slices null --out runs/measured
    python benchmarks/plan_validation.py configs/quickstart.yaml \
        runs/measured/report.json --preset paper --pres.clock log

Calibrates the machine first, on one worker. CPU time and bytes are medians over runs, wall-clock
time is the shortest; beyond the machine's cores, only CPU time and bytes are compared. Also reads
the steps kept in benchmarks/results/planner, which were measured on the first `--events` events.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from pres_dist.bench.read_reports import read_scaling
from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.parallel.world import World
from pres_dist.planner.calibrate import calibrate
from pres_dist.planner.layout import Layout
from pres_dist.planner.machine import Machine, load_machine
from pres_dist.planner.predict import StepCost, predict
from pres_dist.planner.touched import count_touches
from pres_dist.planner.workload import Workload
from pres_dist.training.setup import assembled

HEAD = (
    "| workers | CPU ms a step and worker: measured | predicted | error "
    "| KB of rows and ids: measured | predicted | error "
    "| wall ms a step: shortest | predicted | error "
    "| CPU an event, of one worker's: measured | predicted |\n" + "|---" * 12 + "|"
)


@dataclass(frozen=True, order=True)
class Setting:
    """Number of workers, and events in their temporal batch."""

    workers: int
    batch: int


@dataclass(frozen=True)
class PerEvent:
    """Cost of one event: CPU seconds and bytes of all workers, seconds of wall-clock time."""

    cpu: float
    remote_bytes: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("measured", type=Path, help="report.json of bench scaling, or kept steps")
    parser.add_argument("--events", type=int, help="measured from the middle (default: all)")
    parser.add_argument("--machine", help="a calibrated profile (default: calibrate now)")
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    config = load_config(arguments.config, overrides)
    machine = load_machine(arguments.machine) if arguments.machine else calibrate(config)
    measured = read_measured(arguments.measured)
    predicted = predictions(config, machine, list(measured), arguments.events)
    groups = {f"{s.batch // s.workers:,} events a worker": s.batch // s.workers for s in measured}
    for title, each in sorted(groups.items(), key=lambda item: item[1]):
        table(title, [s for s in measured if s.batch == each * s.workers], measured, predicted)
    for batch in sorted({setting.batch for setting in measured}):
        own = [setting for setting in measured if setting.batch == batch]
        table(f"{batch:,} events in all", own, measured, predicted)


def read_measured(path: Path) -> dict[Setting, list[PerEvent]]:
    found: dict[Setting, list[PerEvent]] = {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        for row in content:
            found[Setting(row["workers"], row["batch"])] = [
                PerEvent(*(one[key] / one["events"] for key in ("cpu", "remote_bytes", "wall")))
                for one in row["rounds"]
            ]
        return found
    report = read_scaling(path)
    for run in report.runs:
        if run.state == "done" and not run.changes and run.launcher == report.asked.launchers[0]:
            cpu, sent, rate = (
                run.figures[name] or 0.0
                for name in (
                    "cpu_microseconds_per_event",
                    "remote_bytes_per_step",
                    "step_events_per_second",
                )
            )
            each = PerEvent(cpu / 1e6, sent / run.batch_size, 1 / rate)
            found.setdefault(Setting(run.workers, run.batch_size), []).append(each)
    return dict(sorted(found.items()))


def predictions(
    config: RunConfig, machine: Machine, settings: list[Setting], events: int | None
) -> dict[Setting, StepCost]:
    """Return the planner's costs, with the distinct nodes of the events that were measured."""
    found = {}
    with assembled(config, torch.device("cpu"), World()) as parts:
        stream, all_events = parts.data.stream, parts.train_loader.num_events
        for setting in settings:
            num = max(round((events or all_events) / setting.batch), 1)
            warm = max(min(all_events // setting.batch - num, max(num // 2, 2)), 0)
            within = range(warm * setting.batch, min((warm + num) * setting.batch, all_events))
            touch = count_touches(stream, config, setting.batch, 24, within)
            work = Workload(config, stream.num_nodes, stream.num_events, stream.edge_dim)
            plan = Layout(setting.workers, 1, 1, setting.batch)
            found[setting] = predict(work, plan, machine, touch)
    return found


def table(
    title: str,
    settings: list[Setting],
    measured: dict[Setting, list[PerEvent]],
    predicted: dict[Setting, StepCost],
) -> None:
    if len(settings) < 2:
        return
    print(f"\n{title}\n\n{HEAD}")
    alone: tuple[float, float] | None = None
    for setting in sorted(settings):
        cost, workers, runs = predicted[setting], setting.workers, measured[setting]
        cpu = statistics.median(run.cpu for run in runs)
        sent = statistics.median(run.remote_bytes for run in runs) * setting.batch
        expected = cost.cpu_s * workers / setting.batch
        alone = alone or (cpu, expected)
        # Other work on the machine only ever adds to wall-clock time.
        wall = min(run.wall for run in runs) * setting.batch
        has_cores = workers <= len(os.sched_getaffinity(0))
        cells = [
            *compared(cpu * setting.batch / workers * 1e3, cost.cpu_s * 1e3),
            *compared(sent / workers / 1e3, cost.bytes.rows / 1e3),
            *(compared(wall * 1e3, cost.step_s * 1e3) if has_cores else ["", "", ""]),
            f"{cpu / alone[0]:.2f}",
            f"{expected / alone[1]:.2f}",
        ]
        print(f"| {workers} | {' | '.join(cells)} |", flush=True)


def compared(measured: float, predicted: float) -> list[str]:
    error = f"{predicted / measured - 1:+.0%}" if measured else "-"
    return [f"{measured:,.1f}", f"{predicted:,.1f}", error]


if __name__ == "__main__":
    main()
