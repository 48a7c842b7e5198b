"""A discrete-event simulation of training steps: workers that straggle and shards that are slow.

What happens in a step: every worker asks all shards for its rows; a shard answers one
worker after the other; workers compute; when the slowest is done, gradients are added up;
all push, and a shard takes the pushes before the next pulls. With a staleness of 1 the rows
of the next step are asked for when a step begins to compute, and are read meanwhile.

Times of events are maxima and sums of earlier ones. All workers of a step are computed at
once, and shards of equal speed as one: they see the same requests at the same times. So
4,096 workers and as many shards take microseconds a step and need no queue of events;
tests/planner compares with a simulation that has one.

Shapes: W workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Cluster:
    """Workers and shards, as seconds.

    Attributes:
        workers: W.
        compute_s: mean of computing a step.
        pull_s, push_s: that a shard is busy with the rows of one worker.
        reduce_s: of adding up gradients.
        jitter: standard deviation of computing over its mean, from step to step; lognormal.
        straggler_share: of the workers.
        straggler_factor: times that a straggler's computing takes.
        persistent: whether the same workers straggle in all steps, or others in each.
        slow_shard: times that the slowest shard takes for a row; 1 where all are alike.
        staleness: 0, or 1 for reads one step ahead.
    """

    workers: int
    compute_s: float
    pull_s: float
    push_s: float
    reduce_s: float
    jitter: float = 0.0
    straggler_share: float = 0.0
    straggler_factor: float = 1.0
    persistent: bool = True
    slow_shard: float = 1.0
    staleness: int = 0

    @property
    def undisturbed(self) -> Cluster:
        """The same without jitter, stragglers and slow shards, and with synchronous reads."""
        return replace(self, jitter=0.0, straggler_share=0.0, slow_shard=1.0, staleness=0)

    def __post_init__(self) -> None:
        if self.workers < 1 or self.staleness not in (0, 1):
            raise ValueError(
                f"a cluster must have workers and a staleness of 0 or 1, got {self.workers} "
                f"and {self.staleness}"
            )


@dataclass(frozen=True)
class Simulated:
    """What came of some steps.

    Attributes:
        step_s: mean seconds of a step.
        waiting: share of the workers' time that they waited for the slowest to compute.
        reading: share that they waited for rows.
    """

    step_s: float
    waiting: float
    reading: float


def simulate(cluster: Cluster, steps: int, seed: int = 0) -> Simulated:
    """Go through some steps, the first reads included."""
    draws = np.random.default_rng(seed)
    straggling_W = _straggling(cluster, draws)
    speeds = (cluster.slow_shard, 1.0)
    free = dict.fromkeys(speeds, 0.0)  # when shards of each speed have done all that came
    now = waited = read = 0.0
    ahead_W = None
    for _ in range(steps):
        ready_W = ahead_W if ahead_W is not None else _pulls(cluster, draws, free, now)
        begin_W = np.maximum(ready_W, now)
        if cluster.staleness:
            ahead_W = _pulls(cluster, draws, free, float(begin_W.max()))
        if not cluster.persistent:
            straggling_W = _straggling(cluster, draws)
        done_W = begin_W + _computing(cluster, draws, straggling_W)
        end = float(done_W.max())
        read += float((begin_W - now).mean())
        waited += float((end - done_W).mean())
        now = end + cluster.reduce_s
        for speed in free:
            free[speed] = max(free[speed], now) + cluster.workers * cluster.push_s * speed
    return Simulated(now / steps, waited / now, read / now)


def relative_throughput(cluster: Cluster, steps: int, seed: int = 0) -> tuple[float, Simulated]:
    """Steps a second over those of the undisturbed cluster, and what came of them."""
    found = simulate(cluster, steps, seed)
    return simulate(cluster.undisturbed, steps).step_s / found.step_s, found


def _pulls(
    cluster: Cluster, draws: np.random.Generator, free: dict[float, float], now: float
) -> np.ndarray:
    """When each worker has its rows [W]: all ask at once and are served in turn."""
    turn_W = draws.permutation(cluster.workers) + 1
    ready_W = np.zeros(cluster.workers)
    for speed in free:
        start = max(free[speed], now)
        ready_W = np.maximum(ready_W, start + turn_W * cluster.pull_s * speed)
        free[speed] = start + cluster.workers * cluster.pull_s * speed
    return ready_W


def _straggling(cluster: Cluster, draws: np.random.Generator) -> np.ndarray:
    """Bool, who straggles [W]: a fixed number of workers, at least one where there is a share."""
    num = round(cluster.straggler_share * cluster.workers)
    num = max(num, 1) if cluster.straggler_share else 0
    chosen_W = np.zeros(cluster.workers, dtype=bool)
    chosen_W[draws.permutation(cluster.workers)[:num]] = True
    return chosen_W


def _computing(
    cluster: Cluster, draws: np.random.Generator, straggling_W: np.ndarray
) -> np.ndarray:
    """Seconds that each worker computes [W]; their mean is `compute_s` without stragglers."""
    sigma = float(np.sqrt(np.log1p(cluster.jitter**2)))
    noise_W = np.exp(sigma * draws.standard_normal(cluster.workers) - sigma**2 / 2)
    factor_W = np.where(straggling_W, cluster.straggler_factor, 1.0)
    return cluster.compute_s * noise_W * factor_W
