r"""Speedup of a training step by `torch.compile`, and its cost at the start.

    python benchmarks/compiled.py configs/wikipedia.yaml --preset paper --pres.clock log \
        --training.batch_size 600

Compiles parts of the model for sizes that change from step to step, takes turns with the model as
it is, and shows the CPU time of a temporal batch (medians, one thread) and of the first steps, in
which Torch compiles. More options are those of the run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from pres_dist.config.load import load_config
from pres_dist.parallel.world import World
from pres_dist.training.prefetch import StepIndex
from pres_dist.training.setup import assembled, choose_device
from pres_dist.training.step import TrainingStep

PARTS = ("none", "correction", "updater", "updater+correction", "embedding")
_WARM_UP, _STEPS = 8, 20
_MARK = "measured: "


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile", choices=PARTS, help=argparse.SUPPRESS)
    arguments, overrides = parser.parse_known_args()
    if arguments.compile is not None:
        print(_MARK + json.dumps(_measure(arguments.config, overrides, arguments.compile)))
        return
    found: dict[str, list[tuple[float, float] | str]] = {part: [] for part in PARTS}
    for _ in range(arguments.rounds):
        for part in PARTS:
            found[part].append(_in_a_process(sys.argv[1:], part))
    print("| compiled | CPU ms a batch | first 8 batches, CPU s |\n|---|---|---|")
    for part, rounds in found.items():
        failed = [one for one in rounds if isinstance(one, str)]
        if failed:
            print(f"| {part} | {failed[0]} | |")
            continue
        batch, first = (statistics.median(one[place] for one in rounds) for place in (0, 1))
        print(f"| {part} | {batch * 1e3:.1f} | {first:.1f} |")


def _in_a_process(options: list[str], part: str) -> tuple[float, float] | str:
    """Seconds of a batch and of the first ones, or the error that Torch ended with."""
    command = [sys.executable, __file__, *options, "--compile", part]
    done = subprocess.run(command, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            batch, first = json.loads(line.removeprefix(_MARK))
            return batch, first
    errors = [line for line in done.stderr.splitlines() if "Error" in line]
    return errors[-1] if errors else f"exit code {done.returncode}"


def _measure(config_path: Path, overrides: list[str], part: str) -> tuple[float, float]:
    config = load_config(
        config_path, [*overrides, "--training.num_threads", "1", "--training.device", "cpu"]
    )
    torch._dynamo.config.capture_dynamic_output_shape_ops = True
    with assembled(config, choose_device(config), World()) as parts:
        parts.model.train()
        for name in part.split("+"):
            if name != "none":
                module = getattr(parts.model, name)
                module.forward = torch.compile(module.forward, dynamic=True)
        step = TrainingStep(parts)
        seconds = []
        for number in range(_WARM_UP + _STEPS):
            start = time.process_time()
            step.run(step.prepare(StepIndex(1, number)))
            seconds.append(time.process_time() - start)
    return statistics.median(seconds[_WARM_UP:]), sum(seconds[:_WARM_UP])


if __name__ == "__main__":
    main()
