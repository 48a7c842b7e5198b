"""Work of a recorded training step, and an estimate of its time on a GPU that is not here.

    python benchmarks/captured.py configs/wikipedia.yaml --batches 600 4000

Traces a step from the middle of the first epoch on the CPU, counts its operations, and estimates
its time on an H200 (`pres_dist/bench/step/recorded_work.py`). More options are those of the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from pres_dist.bench.step.recorded_work import work_of
from pres_dist.config.load import load_config
from pres_dist.parallel.world import World
from pres_dist.training.captured import CapturedSteps, refusal
from pres_dist.training.recording import trace
from pres_dist.training.setup import assembled, choose_device
from pres_dist.training.step import TrainingStep


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[600, 4000])
    arguments, overrides = parser.parse_known_args()
    print("| events | distinct nodes | operations | kernels | waits | GPU ms | events/s |")
    print("|---|---|---|---|---|---|---|")
    for batch in arguments.batches:
        fixed = ["--training.device", "cpu", "--training.batch_size", str(batch)]
        config = load_config(arguments.config, [*overrides, *fixed])
        with assembled(config, choose_device(config), World()) as parts:
            unsupported = refusal(parts)
            assert unsupported is None, f"no recorded step with {unsupported}"
            parts.model.train()
            step = CapturedSteps(TrainingStep(parts)).fixed_step()
            start, stop = parts.train_loader.bounds(len(parts.train_loader) // 2)
            given = torch.tensor([start, stop, 1, 0.0], dtype=torch.float64)
            work = work_of(trace(step, given, torch.tensor(False)))
        rate = f"{batch / work.seconds:,.0f}"
        print(
            f"| {batch:,} | {step.num_nodes:,} | {work.operations:,} | {work.kernels:,} "
            f"| {work.waits} | {work.seconds * 1e3:.2f} | {rate} |"
        )


if __name__ == "__main__":
    main()
