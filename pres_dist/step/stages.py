"""Where the time of a step goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = (
    "sample",
    "pull",
    "update",
    "embed",
    "loss",
    "backward",
    "all_reduce",
    "optimiser",
    "push",
)


class StageClock:
    """Seconds spent in each stage of a step, added up over steps.

    Host time: on a GPU, whose work is asynchronous, it is the time to launch a
    stage and not that to compute it.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def reset(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
