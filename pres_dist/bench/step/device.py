"""What a GPU does in training steps: events a second, kernels, and how busy it is.

Steps run one after the other, and the host waits only where a step itself makes it. A second,
profiled run counts kernels; it slows the host down, but not the kernels, so that the time in which
any of them ran is compared with the steps of the first.
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
        events_per_s: of training.
        kernels: launched a step, copies and fills among them.
        busy: share of the time in which at least one of them ran.
        peak_bytes: most memory of the device that tensors held.
    """

    events_per_s: float
    kernels: float
    busy: float
    peak_bytes: int


def measure_device(
    run: Callable[[], int], num_steps: int, device: torch.device
) -> DeviceWork | None:
    """Measure steps on a GPU; None on a CPU.

    Args:
        run: runs `num_steps` steps, the same each time; gives the number of their events.
        num_steps: of them.
        device: where they compute.
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
    """When what ran on the GPU began and ended, in microseconds; ranges that only name others
    are left out."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]


def covered(intervals: Iterable[Interval]) -> float:
    """How long at least one of the intervals lasted."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total
