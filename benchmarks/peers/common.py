"""Shared parts of the trainings of all systems: the stream, the metric, the clock.

Runs in the environment of the other systems, so it knows nothing of pres_dist: native
streams are folders of `.npy` columns.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DIM = 100
NUM_NEIGHBORS = 10
NUM_HEADS = 2
TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.15
EVALUATION_BATCH = 200
SCALING_BASE = 200
RESULT = "measured: "


@dataclass(frozen=True)
class Stream:
    """Columns of the events; nodes are numbered from 0, destinations from `first_dst` on.

    Attributes:
        train_end, validation_end: events before them are of the part.
    """

    src: Tensor
    dst: Tensor
    t: Tensor
    features: Tensor
    num_nodes: int
    first_dst: int
    train_end: int
    validation_end: int

    def batches(self, start: int, end: int, size: int) -> Iterator[slice]:
        for first in range(start, end, size):
            yield slice(first, min(first + size, end))

    def negatives(self, count: int, generator: torch.Generator) -> Tensor:
        """Random destinations."""
        return torch.randint(self.first_dst, self.num_nodes, (count,), generator=generator)


@dataclass(frozen=True)
class Options:
    """Of one training."""

    stream: Path
    max_events: int
    batch: int
    epochs: int
    threads: int
    seed: int
    learning_rate: float
    defaults: bool


def parse_options() -> Options:
    """From the command line; also sets threads and seed of torch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream", type=Path)
    parser.add_argument("--max-events", type=int, default=0)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--defaults", action="store_true", help="those of pres_dist")
    options = Options(**vars(parser.parse_args()))
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    return options


def scaled_rate(options: Options) -> float:
    """The learning rate that every system uses: sqrt(batch / 200) times the given one."""
    return options.learning_rate * max(options.batch / SCALING_BASE, 1) ** 0.5


def load(options: Options) -> Stream:
    """The first events of a native stream, features standardized by training events."""
    meta = json.loads((options.stream / "meta.json").read_text())
    end = min(options.max_events or meta["num_events"], meta["num_events"])
    src, dst, t = (np.load(options.stream / f"{name}.npy")[:end] for name in ("src", "dst", "t"))
    features = np.zeros((end, 0), dtype=np.float32)
    if meta["edge_dim"]:
        features = np.load(options.stream / "edge_features.npy", mmap_mode="r")[:end]
    train_end = int(TRAIN_SHARE * end)
    trained = features[:train_end]
    features = (features - trained.mean(0)) / np.maximum(trained.std(0), 1e-6)
    return Stream(
        *(torch.from_numpy(np.ascontiguousarray(column)) for column in (src, dst, t)),
        torch.from_numpy(features.astype(np.float32)),
        meta["num_nodes"],
        meta["num_sources"] or 0,
        train_end,
        int((TRAIN_SHARE + VALIDATION_SHARE) * end),
    )


def average_precision(positive: Tensor, negative: Tensor) -> float:
    """Area under precision and recall by steps; ties count as one threshold."""
    from sklearn.metrics import average_precision_score

    labels = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(average_precision_score(labels, torch.cat([positive, negative]).numpy()))


def measure(
    options: Options,
    stream: Stream,
    train_epoch: Callable[[], None],
    validate: Callable[[], tuple[Tensor, Tensor]],
) -> None:
    """Train and validate, and print what each epoch took and reached."""
    epochs = []
    for _ in range(options.epochs):
        wall, cpu = time.perf_counter(), time.process_time()
        train_epoch()
        seconds = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
        epochs.append({**seconds, "validation_ap": average_precision(*validate())})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(RESULT + json.dumps({"events": stream.train_end, "epochs": epochs, "peak_rss": peak}))
