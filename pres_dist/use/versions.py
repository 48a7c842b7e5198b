"""Which events and which memory a run stands at: those it was trained with, or extended by.

Shapes: N nodes of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pres_dist.config.run import RunConfig
from pres_dist.training.checkpoint import BEST, Checkpoints
from pres_dist.training.identity import check_same_events
from pres_dist.training.setup import Data, load_data


@dataclass(frozen=True)
class RunState:
    """What using a run begins with.

    Attributes:
        data: its stream, and the split that it was trained with.
        segments: ends of what memory is swept over in one go after the training part.
        weights: of the best epoch.
        memory: state of a `LocalStore` of all nodes.
        memory_end: first event that it has not seen.
        checkpoint: name of the one that weights are from.
    """

    data: Data
    segments: Sequence[int]
    weights: Mapping[str, Any]
    memory: dict[str, Any]
    memory_end: int
    checkpoint: str


def open_state(run_dir: Path, config: RunConfig, device: torch.device) -> RunState:
    """The state of a run.

    Raises:
        CheckpointError: no usable checkpoint, or one of other events.
        DataError: the stream cannot be used.
    """
    checkpoints = Checkpoints(run_dir)
    saved = checkpoints.load(BEST)
    data = load_data(config, device)
    check_same_events(data.stream, saved)
    split = data.split
    segments = [split.validation_end, split.num_events]
    return RunState(
        data,
        segments,
        saved["model"],
        saved["store"],
        split.train_end,
        checkpoints.name(BEST),
    )
