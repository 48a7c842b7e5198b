"""Time and memory of training."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

from pres_dist.step.stages import StageClock


class Throughput:
    """Events per second since it was made."""

    def __init__(self, events_before: int) -> None:
        self._events_before, self._started = events_before, time.perf_counter()

    def rate(self, events_done: int) -> float:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return (events_done - self._events_before) / seconds


class EpochTimer:
    """Wall-clock and CPU time of an epoch, by stage; validation is left out of the rates."""

    def __init__(self, clock: StageClock) -> None:
        self._clock = clock
        clock.reset()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._trained: tuple[float, float] | None = None

    def training_ended(self) -> None:
        """Call between training and validation."""
        self._trained = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self._stages = dict(self._clock.seconds)

    def record(self, events: int) -> dict[str, Any]:
        """What an epoch record says of time and memory."""
        assert self._trained is not None
        wall, cpu = (max(seconds, 1e-9) for seconds in self._trained)
        return {
            "events_per_second": events / wall,
            "events_per_cpu_second": events / cpu,
            "seconds": time.perf_counter() - self._wall,
            "stage_seconds": self._stages,
            "peak_rss_bytes": peak_rss_bytes(),
        }


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
