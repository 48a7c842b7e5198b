"""The planner's predictions of a step against measurements of torchrun workers.

The machine is calibrated first, on one worker. Then steps of 1 and more workers are
measured as in `benchmarks/scaling.py`, interleaved: medians, and the shortest wall-clock time.
Beyond the machine's cores that says nothing: CPU seconds and bytes are compared.

    python benchmarks/plan_validation.py configs/quickstart.yaml --workers 1,2,4,8
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch
from scaling import Results, Setting, in_rounds, measured_steps, median, run_setting

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

ONE_SLICE_EACH = ["--parallel.slices", "null"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--workers", default="1,2,4,8", help="numbers of workers, by commas")
    parser.add_argument("--local-batch", type=int, default=500, help="events of a slice")
    parser.add_argument("--batch", type=int, default=4000, help="events of a batch, shared")
    parser.add_argument("--events", type=int, default=24000, help="trained in a measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--machine", help="calibrated before; else now")
    parser.add_argument("--results", type=Path, help="JSON file: read if there, else written")
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    config = load_config(Path(arguments.config), overrides)
    machine = load_machine(arguments.machine) if arguments.machine else calibrate(config)
    counts = [int(count) for count in arguments.workers.split(",")]
    local = [Setting(count, count * arguments.local_batch) for count in counts]
    whole = [Setting(count, arguments.batch) for count in counts]
    run = partial(run_setting, arguments.config, arguments.events, [*overrides, *ONE_SLICE_EACH])
    settings = list(dict.fromkeys(local + whole))
    if arguments.results and arguments.results.exists():
        results = read_results(arguments.results)
    else:
        results = in_rounds(run, settings, arguments.repeats)
    if arguments.results:
        write_results(arguments.results, results)
    predicted = predictions(config, machine, settings, arguments.events)
    for title, own in (
        (f"{arguments.local_batch:,} events a worker", local),
        (f"{arguments.batch:,} events in all", whole),
    ):
        table(title, own, results, predicted)


def read_results(path: Path) -> Results:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {Setting(row["workers"], row["batch"]): row["rounds"] for row in rows}


def write_results(path: Path, results: Results) -> None:
    rows = [
        {"workers": setting.workers, "batch": setting.batch, "rounds": rounds}
        for setting, rounds in results.items()
    ]
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def predictions(
    config: RunConfig, machine: Machine, settings: list[Setting], events: int
) -> dict[Setting, StepCost]:
    """The planner's costs, with the distinct nodes of the events that are measured."""
    found = {}
    with assembled(config, torch.device("cpu"), World()) as parts:
        stream = parts.data.stream
        for setting in settings:
            total = parts.train_loader.num_events // setting.batch
            warm, num = measured_steps(events, setting.batch, total)
            within = range(warm * setting.batch, (warm + num) * setting.batch)
            touch = count_touches(stream, config, setting.batch, 24, within)
            work = Workload(config, stream.num_nodes, stream.num_events, stream.edge_dim)
            plan = Layout(setting.workers, 1, 1, setting.batch)
            found[setting] = predict(work, plan, machine, touch)
    return found


def table(
    title: str, settings: list[Setting], results: Results, predicted: dict[Setting, StepCost]
) -> None:
    print(f"\n{title}\n")
    print(
        "| workers | CPU ms a step and worker: measured | predicted | error "
        "| KB of rows and ids: measured | predicted | error "
        "| wall ms a step: shortest | predicted | error "
        "| CPU an event, of one worker's: measured | predicted |"
    )
    print("|---" * 12 + "|")
    first = settings[0]
    alone = per_event(results, first, "cpu"), cpu_of(predicted[first], first)
    for setting in settings:
        cost, workers = predicted[setting], setting.workers
        cpu, sent = (
            setting.batch * per_event(results, setting, name) for name in ("cpu", "remote_bytes")
        )
        # Other work on the machine only ever adds to wall-clock time.
        wall = setting.batch * min(r["wall"] / r["events"] for r in results[setting])
        cells = [
            *compared(cpu / workers * 1e3, cost.cpu_s * 1e3),
            *compared(sent / workers / 1e3, cost.bytes.rows / 1e3),
            *(compared(wall * 1e3, cost.step_s * 1e3) if workers <= cores() else ["", "", ""]),
            f"{per_event(results, setting, 'cpu') / alone[0]:.2f}",
            f"{cpu_of(cost, setting) / alone[1]:.2f}",
        ]
        print(f"| {workers} | {' | '.join(cells)} |")


def cpu_of(cost: StepCost, setting: Setting) -> float:
    """Predicted CPU seconds of all workers an event."""
    return cost.cpu_s * setting.workers / setting.batch


def per_event(results: Results, setting: Setting, name: str) -> float:
    value: float = median(results, setting, lambda result: result[name] / result["events"])
    return value


def compared(measured: float, predicted: float) -> list[str]:
    error = f"{predicted / measured - 1:+.0%}" if measured else "-"
    return [f"{measured:,.1f}", f"{predicted:,.1f}", error]


def cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
