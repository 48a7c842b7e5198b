"""A small stream that can be learned, and a configuration that trains it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream
from pres_dist.training.checkpoint import LATEST, Checkpoints
from pres_dist.training.run import train
from pres_dist.training.trainer import Trainer

MakeConfig = Callable[..., RunConfig]


def habitual_stream(num_events: int = 1500, features: int = 3, seed: int = 0) -> EventStream:
    """Users who mostly return to one item of their own; about one event in five shares its time."""
    rng = np.random.default_rng(seed)
    src = rng.integers(0, 40, num_events)
    favorite = rng.integers(0, 15, 40)
    random_item = rng.integers(0, 15, num_events)
    dst = 40 + np.where(rng.random(num_events) < 0.8, favorite[src], random_item)
    t = np.cumsum(rng.integers(0, 5, num_events)) + 1_700_000_000_000
    return EventStream.from_arrays(
        src,
        dst,
        t,
        name="habits",
        num_sources=40,
        edge_features=rng.normal(size=(num_events, features)) if features else None,
    )


def labelled_stream(num_events: int = 1500, planted: bool = False) -> EventStream:
    """The habitual stream with three labels, some of them missing (-1).

    A label goes by the user, whose earlier events tell it by their features. With `planted`,
    labels are drawn by lot instead, and each event's features tell its own and no other.
    """
    stream, rng = habitual_stream(num_events), np.random.default_rng(7)
    labels = rng.integers(0, 3, num_events) if planted else stream.src % 3
    told = np.eye(3, dtype=np.float32)[labels]
    noise = 0 if planted else rng.normal(size=told.shape).astype(np.float32) / 4
    labels = np.where(rng.random(num_events) < 0.1, -1, labels)
    return replace(stream, labels=labels, edge_features=told + noise)


def small_config(stream_path: Path) -> MakeConfig:
    """Makes configurations; keyword arguments override, with __ for dots."""

    def make(**overrides: object) -> RunConfig:
        values: dict[str, object] = {
            "data.stream": stream_path,
            "memory.dim": 8,
            "model.embedding_dim": 8,
            "model.time_dim": 6,
            "sampling.num_neighbors": 4,
            "training.epochs": 2,
            "training.batch_size": 100,
            "training.learning_rate": 0.01,
            "training.num_threads": 1,
            "evaluation.batch_size": 50,
            "evaluation.num_negatives": 5,
        }
        values |= {name.replace("__", "."): value for name, value in overrides.items()}
        arguments = [text for name, value in values.items() for text in (f"--{name}", str(value))]
        return load_config(None, arguments)

    return make


class Died(Exception):
    """Stands for whatever ended a run."""


def train_until(config: RunConfig, run_dir: Path, step: int) -> None:
    """Begin a run that dies once it has trained so many temporal batches."""
    original = Trainer._train_step

    def dying(trainer: Trainer, *given: Any) -> None:
        if trainer.state.step == step:
            raise Died
        original(trainer, *given)

    with mock.patch.object(Trainer, "_train_step", dying), pytest.raises(Died):
        train(config, run_dir)


def saved_state(run_dir: Path, which: str = LATEST) -> dict[str, Any]:
    """All that a checkpoint holds: its memory as `store`, that of replicas before as `earlier`."""
    opened = Checkpoints(run_dir).open(which)
    earlier = [opened.memory.whole(replica) for replica in range(opened.memory.num_replicas - 1)]
    return {**opened.state, "store": opened.memory.last(), "earlier": earlier}
