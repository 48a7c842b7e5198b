"""Tasks on a trained run that several workers may share, with bit-identical results.

Embeddings and scores only read memory, and the memory at a time does not depend on earlier
queries (`inference/walker.py`). So any worker may compute any task: it opens the run itself, and
moves its own memory to the time that the task reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from pres_dist.errors import ConfigError, WorkerLostError
from pres_dist.inference.live import LiveRun
from pres_dist.inference.walker import Report, quiet


class Task(Protocol):
    """Unit of work that can be sent to another process.

    A task holds numpy arrays, because torch would send tensors through /dev/shm.
    """

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        """Return the rows of the result.

        Args:
            live: the run; its memory is moved.
            report: progress callback that counts the events that memory is updated with.
        """


class Share(Protocol):
    """Executor of tasks on a run."""

    def __call__(self, tasks: Iterable[Task], report: Report = quiet) -> Iterator[np.ndarray]:
        """Yield the result of each task, in the order of the tasks.

        Args:
            tasks: tasks in the order of their times, so that memory only moves forward.
            report: progress callback for moving memory to the first task.

        Raises:
            WorkerLostError: a worker died.
        """


class Alone:
    """Executor that computes tasks one after the other on an open run.

    Args:
        live: the run.
    """

    def __init__(self, live: LiveRun) -> None:
        self._live = live

    def __call__(self, tasks: Iterable[Task], report: Report = quiet) -> Iterator[np.ndarray]:
        """Yield the result of each task."""
        for task in tasks:
            yield task.compute(self._live, report)
            report = quiet


@dataclass(frozen=True)
class Opening:
    """Arguments for a worker to open the same run as the main process.

    Attributes:
        run_dir, replay: arguments of `LiveRun`.
        num_events, weights: number of events, and digest of the weights, as opened by the main
            process.
        num_threads: number of torch threads, if the run's configuration does not set it.
        stream: current path of the run's stream, if it was moved.
    """

    run_dir: Path
    replay: bool
    num_events: int
    weights: str
    num_threads: int
    stream: Path | None = None

    @classmethod
    def of(cls, live: LiveRun, num_threads: int) -> Opening:
        """Return the arguments that open this run again."""
        return cls(
            live.run_dir,
            live.replayed,
            live.stream.num_events,
            live.digest,
            num_threads,
            live.moved_stream,
        )

    def open(self) -> LiveRun:
        """Open the run; raise ConfigError if it changed since the main process opened it."""
        torch.set_num_threads(self.num_threads)
        live = LiveRun(self.run_dir, self.replay, stream=self.stream)
        if (live.stream.num_events, live.digest) != (self.num_events, self.weights):
            raise ConfigError(
                f"{self.run_dir}: must stay as it is while workers use it, and was extended or "
                "trained on meanwhile: run the command again"
            )
        return live


def lost(worker: int, how: str) -> WorkerLostError:
    """Return the error for a lost worker."""
    return WorkerLostError(
        f"worker {worker} {how}, and the command with it: run it again (each worker holds the "
        "memory of all nodes: fewer --workers need less)"
    )
