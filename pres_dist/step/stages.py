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
    "optimiser",
    "push",
)

COMPUTE = ("update", "embed", "loss", "backward", "optimiser")


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
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._now = now

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self.seconds[stage] += self._now() - start

    def reset(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
