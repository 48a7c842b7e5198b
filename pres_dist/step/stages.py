"""Where the time of a step goes."""

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
"""Ranges of an epoch in which the workers' computing is told apart."""


def split_of(seconds: Mapping[str, float]) -> dict[str, float]:
    """A worker's time as sample, pull, compute, push, all_reduce and wait."""
    split = {stage: value for stage, value in seconds.items() if stage not in COMPUTE}
    return {**split, "compute": sum(seconds[stage] for stage in COMPUTE)}


class StageClock:
    """Seconds spent in each stage of a step, added up over steps.

    Host time: on a GPU, whose work is asynchronous, it is the time to launch a
    stage and not that to compute it.

    Args:
        now: seconds of whichever clock is meant.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.stage: str | None = None
        """The stage that is running; None between two."""
        self.reset()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        outer, self.stage = self.stage, stage
        start = self._now()
        try:
            yield
        finally:
            self.seconds[stage] += self._now() - start
            self.stage = outer

    def step_ended(self, done: int, total: int) -> None:
        """Note the computing of a range of steps where one ends.

        Args:
            done: steps of `total` that are done, this one included.
            total: steps that are cut into ranges, RANGES of them at the most.
        """
        if done * RANGES // total > (done - 1) * RANGES // total:
            computed = split_of(self.seconds)["compute"]
            self.compute_by_range.append(computed - sum(self.compute_by_range))

    def reset(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.compute_by_range: list[float] = []
        """Seconds of computing in consecutive ranges of steps."""
