"""Measure a GPU in training steps: events/s, number of kernels, and utilization.

Steps run one after the other, and the host waits only where a step itself requires it. A second,
profiled run counts kernels. Profiling slows down the host but not the kernels, so the time in which
any kernel ran is compared with the duration of the first run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

Interval = tuple[float, float]


@dataclass(frozen=True)
class DeviceWork:
    """Averages over some steps.

    Attributes:
        events_per_s: training events per second.
        kernels: kernels launched per step, including copies and fills.
        busy: share of the time in which at least one kernel ran.
        peak_bytes: peak device memory of tensors.
    """

    events_per_s: float
    kernels: float
    busy: float
    peak_bytes: int


def measure_device(
    run: Callable[[], int], num_steps: int, device: torch.device
) -> DeviceWork | None:
    """Measure steps on a GPU; return None on a CPU.

    Args:
        run: runs the same `num_steps` steps at each call; returns the number of their events.
        num_steps: number of steps of a run.
        device: device of the steps.
    """
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    events = run()
    torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize(device)
    ran = kernels_of(profiled.events() or [])
    return DeviceWork(events / seconds, len(ran) / num_steps, covered(ran) / 1e6 / seconds, peak)


def kernels_of(events: Iterable[Any]) -> list[Interval]:
    """Return the start and end of each GPU kernel in microseconds, without user annotations."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]


def covered(intervals: Iterable[Interval]) -> float:
    """Return the total length of the union of intervals."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total
