"""Cost and gain of several workers: CPU time and bytes an event, and events a second.

Each configuration is measured in torchrun workers of one thread each, on training steps
from the middle of an epoch; evaluation is left out. Configurations are interleaved and
repeated, medians are shown. All on one machine: beyond its cores, wall-clock time says
nothing, and CPU time and bytes are what counts.

    python benchmarks/scaling.py configs/quickstart.yaml --inflation
    python benchmarks/scaling.py configs/quickstart.yaml --speed-up
    python benchmarks/scaling.py configs/flights3m.yaml --speed-up --data.stream data/flights3m
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

MARK = "measured: "


@dataclass(frozen=True)
class Setting:
    """One line of the comparison.

    Attributes:
        workers: processes.
        batch: events in a temporal batch, of all workers together or, apart, of each.
        apart: whether they have nothing to do with one another: what the machine makes of
            so many processes at a time, and no fault of their working together.
    """

    workers: int
    batch: int
    apart: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--inflation", action="store_true", help="work and bytes, 1 to 8 workers")
    parser.add_argument("--speed-up", action="store_true", help="events/s of 2 workers and of 1")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--local-batch", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=4000, help="of all workers, for --speed-up")
    parser.add_argument("--events", type=int, default=48000, help="trained in a measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments, overrides = parser.parse_known_args()
    if arguments.measure:
        measure(arguments.config, arguments.events, overrides)
        return
    run = partial(run_setting, arguments.config, arguments.events, overrides)
    if arguments.inflation:
        counts, size = arguments.workers, arguments.local_batch
        local = [Setting(count, count * size) for count in counts]
        apart = [Setting(count, size, apart=True) for count in counts]
        whole = [Setting(count, max(counts) * size) for count in counts]
        settings = list(dict.fromkeys(local + apart + whole))
        results = in_rounds(run, settings, arguments.repeats)
        _inflation(f"{size:,} events a worker", results, local)
        _inflation(f"workers apart, {size:,} events each", results, apart)
        _inflation(f"{max(counts) * size:,} events in all", results, whole)
    if arguments.speed_up:
        settings = [Setting(w, arguments.batch) for w in (1, 2)]
        _speed_up(in_rounds(run, settings, arguments.repeats), settings)


Results = dict[Setting, list[dict[str, Any]]]


def in_rounds(run: Any, settings: Sequence[Setting], repeats: int) -> Results:
    """Every setting once in each of `repeats` rounds."""
    results: Results = {setting: [] for setting in settings}
    for number in range(repeats):
        for setting in settings:
            results[setting].append(run(setting))
            print(f"round {number + 1}: {setting} {results[setting][-1]}", file=sys.stderr)
    return results


def run_setting(
    config: str, events: int, overrides: Sequence[str], setting: Setting
) -> dict[str, Any]:
    """Measure one setting in processes of its own."""
    groups = setting.workers if setting.apart else 1
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={setting.workers // groups}", __file__, config, "--measure"]
    command += ["--events", str(events // groups), "--training.batch_size", str(setting.batch)]
    started = [_start([*command, *overrides]) for _ in range(groups)]
    outcomes = [process.communicate() for process in started]
    lines = [line for out, _ in outcomes for line in out.splitlines() if line.startswith(MARK)]
    if len(lines) < groups:
        sys.exit("".join(err for _, err in outcomes))
    results = [json.loads(line.removeprefix(MARK)) for line in lines]
    return {name: sum(result[name] for result in results) for name in results[0]}


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def measure(config_path: str, events: int, overrides: Sequence[str]) -> None:
    """Train `events` events from the middle of an epoch and print what it took."""
    from pres_dist.config.load import load_config
    from pres_dist.parallel.grid import training_grid
    from pres_dist.parallel.join import join_world
    from pres_dist.training.setup import assemble, choose_device, load_data

    on_one_core = ["--training.num_threads", "1", "--training.device", "cpu"]
    config = load_config(Path(config_path), [*overrides, *on_one_core])
    device = choose_device(config)
    with join_world(device, partial(training_grid, config.parallel)) as world:
        parts = assemble(config, world.rank0_first(lambda: load_data(config, device)), world)
        _steps(parts, events, world)


def measured_steps(events: int, batch: int, total: int) -> tuple[int, int]:
    """Steps before those that are measured, and these, of an epoch of so many."""
    num = max(round(events / batch), 1)
    return max(min(total - num, max(num // 2, 2)), 0), num


def _steps(parts: Any, events: int, world: Any) -> None:
    from pres_dist.report.metrics_log import MetricsSink
    from pres_dist.report.progress import Progress
    from pres_dist.training.prefetch import StepIndex
    from pres_dist.training.trainer import Trainer

    trainer = Trainer(parts, None, MetricsSink(), Progress())  # type: ignore[arg-type]
    parts.model.train()
    batch, total = parts.config.training.batch_size, trainer.schedule.num_steps
    warm, num = measured_steps(events, batch, total)
    wall = cpu = 0.0
    indices = [StepIndex(1, number) for number in range(warm + num)]
    for inputs in trainer.step.prefetch.steps(indices):
        trainer.step.run(inputs)
        if inputs.index.number == warm - 1:
            world.host_barrier()
            parts.clock.reset()
            if hasattr(parts.store, "traffic"):
                parts.store.traffic.reset()
            wall, cpu = time.perf_counter(), time.process_time()
    world.host_barrier()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    traffic = getattr(parts.store, "traffic", None)
    volumes = list(vars(traffic).values()) if traffic is not None else []
    spent["remote_bytes"] = sum(volume.remote_bytes for volume in volumes)
    spent["remote_rows"] = sum(volume.remote_rows for volume in volumes)
    everyone = world.gather(spent)
    if world.is_rank0:
        done = trainer.schedule.events_before(warm + num) - trainer.schedule.events_before(warm)
        sums = {name: sum(one[name] for one in everyone) for name in spent}
        print(MARK + json.dumps({**sums, "wall": spent["wall"], "events": done}))


def median(results: Results, setting: Setting, value: Any) -> float:
    return statistics.median(value(result) for result in results[setting])


def _inflation(title: str, results: Results, settings: Sequence[Setting]) -> None:
    print(f"\n{title}")
    print("| workers | CPU us an event | of one worker | KB sent an event |")
    print("|---|---|---|---|")
    base = median(results, settings[0], lambda r: r["cpu"] / r["events"])
    for setting in settings:
        cpu = median(results, setting, lambda r: r["cpu"] / r["events"])
        sent = median(results, setting, lambda r: r["remote_bytes"] / r["events"])
        print(f"| {setting.workers} | {cpu * 1e6:.0f} | {cpu / base:.2f} | {sent / 1e3:.2f} |")


def _speed_up(results: Results, settings: Sequence[Setting]) -> None:
    print("\n| workers | global batch | events/s, median | lowest to highest |")
    print("|---|---|---|---|")
    for setting in settings:
        rates = sorted(result["events"] / result["wall"] for result in results[setting])
        print(
            f"| {setting.workers} | {setting.batch:,} | {statistics.median(rates):,.0f} "
            f"| {rates[0]:,.0f} to {rates[-1]:,.0f} |"
        )
    one, two = (median(results, setting, lambda r: r["events"] / r["wall"]) for setting in settings)
    pairs = zip(*(results[setting] for setting in settings), strict=True)
    ratios = [a["wall"] / b["wall"] * b["events"] / a["events"] for a, b in pairs]
    print(f"\n{two / one:.2f} times (median of the rounds' ratios {statistics.median(ratios):.2f})")


if __name__ == "__main__":
    main()
