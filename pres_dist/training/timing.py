"""Time and memory measurements of training."""

from __future__ import annotations

import platform
import resource
import sys
import time

import torch

from pres_dist.records import EpochCosts, WorkerProgress, WorkerRecord
from pres_dist.step.stages import split_of
from pres_dist.training.setup import Parts
from pres_dist.training.totals import EpochTotals


class Throughput:
    """Events per second since construction."""

    def __init__(self, events_before: int) -> None:
        self._events_before, self._started = events_before, time.perf_counter()

    def rate(self, events_done: int) -> float:
        """Return the events per second, after the given number of events of the epoch."""
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return (events_done - self._events_before) / seconds


def so_far(parts: Parts, totals: EpochTotals) -> WorkerProgress:
    """Return this worker's time, traffic and pending events in the current epoch."""
    record: WorkerProgress = {
        "seconds": split_of(parts.clock.seconds),
        "pending_events_mean": totals.means()["pending_events_mean"],
    }
    if parts.traffic is not None:
        record["local_bytes"] = parts.traffic.local_bytes
        record["remote_bytes"] = parts.traffic.remote_bytes
    return record


class EpochTimer:
    """Wall-clock and CPU time of an epoch, by stage and worker; rates exclude validation."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        parts.clock.reset()
        if parts.traffic is not None:  # drop the traffic of the preceding validation
            parts.traffic.reset()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def training_ended(self, gradient_bytes: int) -> None:
        """Stop the training time; call between training and validation, on all workers.

        Args:
            gradient_bytes: bytes that this worker sent to all-reduce gradients.
        """
        parts, traffic = self._parts, self._parts.traffic
        self._trained_s = time.perf_counter() - self._wall
        cpu_s, self._stages = time.process_time() - self._cpu, dict(parts.clock.seconds)
        worker: WorkerRecord = {
            "rank": parts.world.rank,
            "host": platform.node(),
            "device": device_name(parts.device),
            "threads": torch.get_num_threads(),
            "seconds": split_of(self._stages),
            "compute_by_range": parts.clock.compute_by_range,
            "cpu_seconds": cpu_s,
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_device_bytes": peak_device_bytes(parts.device),
            "gradient_bytes": gradient_bytes,
        }
        if traffic is not None:
            worker["traffic"] = {verb: dict(vars(volume)) for verb, volume in vars(traffic).items()}
        self._workers = parts.world.gather(worker)

    def record(self, events: int) -> EpochCosts:
        """Return the time, memory and traffic entries of an epoch record."""
        wall = max(self._trained_s, 1e-9)
        cpu = max(sum(worker["cpu_seconds"] for worker in self._workers), 1e-9)
        return {
            "events_per_second": events / wall,
            "events_per_cpu_second": events / cpu,
            "seconds": time.perf_counter() - self._wall,
            "stage_seconds": self._stages,
            "peak_rss_bytes": peak_rss_bytes(),
            "backend": self._parts.world.backend,
            "workers": self._workers,
        }


def peak_rss_bytes() -> int:
    """Return the peak resident memory of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """Return the peak memory of tensors on a GPU, in bytes; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
