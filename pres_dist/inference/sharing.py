"""Work on a trained run that several workers may share, with the same bits as one.

Embeddings and scores read memory and leave nothing behind, and the memory of a time does not
depend on what was asked before (`inference/live.py`). So it makes no difference who computes a
task: a worker opens the run for itself, and brings its own memory to where the task reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from pres_dist.errors import ConfigError, WorkerLostError
from pres_dist.inference.live import LiveRun, Report, quiet


class Task(Protocol):
    """A part of the work, which can be sent to another process.

    It holds numpy arrays: torch would send tensors through /dev/shm.
    """

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        """The rows of the result.

        Args:
            live: the run; its memory is moved.
            report: told of the events that it takes in on the way.
        """


class Share(Protocol):
    """Whoever computes tasks on a run."""

    def __call__(self, tasks: Iterable[Task], report: Report = quiet) -> Iterator[np.ndarray]:
        """What each task gives, in the order of the tasks.

        Args:
            tasks: in the order of their times, so that no memory has to go back.
            report: told how memory is brought to the first of them.

        Raises:
            WorkerLostError: a worker died.
        """


class Alone:
    """Computes tasks one after the other, on the run as it is.

    Args:
        live: the run.
    """

    def __init__(self, live: LiveRun) -> None:
        self._live = live

    def __call__(self, tasks: Iterable[Task], report: Report = quiet) -> Iterator[np.ndarray]:
        for task in tasks:
            yield task.compute(self._live, report)
            report = quiet


@dataclass(frozen=True)
class Opening:
    """How a worker opens the run that a command has opened.

    Attributes:
        run_dir, replay: as of `LiveRun`.
        num_events, checkpoint: what the command has found there.
        num_threads: of torch, where the run's configuration does not say.
        stream: where the run's stream is now.
    """

    run_dir: Path
    replay: bool
    num_events: int
    checkpoint: str
    num_threads: int
    stream: Path | None = None

    @classmethod
    def of(cls, live: LiveRun, num_threads: int) -> Opening:
        return cls(
            live.run_dir,
            live.replayed,
            live.stream.num_events,
            live.checkpoint,
            num_threads,
            live.moved_stream,
        )

    def open(self) -> LiveRun:
        """The run; ConfigError where it is no longer the one that the command has opened."""
        torch.set_num_threads(self.num_threads)
        live = LiveRun(self.run_dir, self.replay, stream=self.stream)
        if (live.stream.num_events, live.checkpoint) != (self.num_events, self.checkpoint):
            raise ConfigError(
                f"{self.run_dir}: must stay as it is while workers use it, and was extended or "
                "trained on meanwhile: run the command again"
            )
        return live


def lost(worker: int, how: str) -> WorkerLostError:
    """The error for a worker that is gone."""
    return WorkerLostError(
        f"worker {worker} {how}, and the command with it: run it again (each worker holds the "
        "memory of all nodes: fewer --workers need less)"
    )
