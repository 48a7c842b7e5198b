"""Time spent in each stage of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

STAGES = (
    "sample",
    "pull",
    "update",
    "embed",
    "loss",
    "backward",
    "wait",
    "all_reduce",
    "optimizer",
    "push",
)

COMPUTE = ("update", "embed", "loss", "backward", "optimizer")

RANGES = 10
"""Number of ranges of an epoch for which compute time is recorded separately."""


def split_of(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return a worker's time split into sample, pull, compute, push, all_reduce and wait."""
    split = {stage: value for stage, value in seconds.items() if stage not in COMPUTE}
    return {**split, "compute": sum(seconds[stage] for stage in COMPUTE)}


class StageClock:
    """Seconds spent in each stage of a step, summed over steps.

    Measures host time: GPU work is asynchronous, so on a GPU it is the time to launch a
    stage and not the time to compute it.
    """

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.perf_counter
        """Returns the current time in seconds; may be replaced between steps."""
        self.stage: str | None = None
        """Stage that is running; None between stages."""
        self.reset()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to a stage."""
        outer, self.stage = self.stage, stage
        start = self.now()
        try:
            yield
        finally:
            self.seconds[stage] += self.now() - start
            self.stage = outer

    def step_ended(self, done: int, total: int) -> None:
        """Record the compute time of a range of steps if this step ends one.

        Args:
            done: number of completed steps, including this one.
            total: number of steps, divided into at most RANGES ranges.
        """
        if done * RANGES // total > (done - 1) * RANGES // total:
            computed = split_of(self.seconds)["compute"]
            self.compute_by_range.append(computed - sum(self.compute_by_range))

    def reset(self) -> None:
        """Set all times to zero."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.compute_by_range: list[float] = []
        """Seconds of compute time in consecutive ranges of steps."""
