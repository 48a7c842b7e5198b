"""A configuration that trains a small stream in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import MakeConfig, habitual_stream

from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig


@pytest.fixture
def stream_path(tmp_path: Path) -> Path:
    habitual_stream().save(tmp_path / "habits")
    return tmp_path / "habits"


@pytest.fixture
def make_config(stream_path: Path) -> MakeConfig:
    """Configuration of a small run; keyword arguments override, with __ for dots."""

    def make(**overrides: object) -> RunConfig:
        values: dict[str, object] = {
            "data.stream": stream_path,
            "memory.dim": 8,
            "model.embedding_dim": 8,
            "model.time_dim": 6,
            "sampling.num_neighbours": 4,
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
