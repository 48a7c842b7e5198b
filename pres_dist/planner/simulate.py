"""Discrete-event simulation of training steps with stragglers and slow shards.

In a step, every worker requests its rows from all shards; a shard answers one worker after the
other; workers compute; when the slowest is done, gradients are all-reduced; all workers push, and
a shard applies the pushes before the next pulls. With a staleness of 1, the rows of the next step
are requested when a step begins to compute, and are read meanwhile.

Times of events are maxima and sums of earlier times. All workers of a step are computed at once,
and shards of equal speed as one, because they receive the same requests at the same times. So
4,096 workers and as many shards take microseconds per step and need no event queue; tests/planner
compares with a simulation that has one.

Shapes: W workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pres_dist.planner.layout import Layout
from pres_dist.planner.machine import Machine
from pres_dist.planner.predict import StepCost, link_between

STEPS = 400


@dataclass(frozen=True)
class Cluster:
    """Timing of the workers and shards of a cluster, in seconds.

    Attributes:
        workers: W.
        compute_s: mean time to compute a step.
        pull_s, push_s: time that a shard is busy with the rows of one worker.
        reduce_s: time of the all-reduce of gradients.
        jitter: standard deviation of the compute time relative to its mean; lognormal.
        straggler_share: share of workers that are stragglers.
        straggler_factor: factor on the compute time of a straggler.
        persistent: True if the same workers straggle in all steps, False to draw them each step.
        slow_shard: factor on the time of the slowest shard; 1 if all are equally fast.
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
        """Return this cluster without disturbances, and with synchronous reads."""
        return replace(self, jitter=0.0, straggler_share=0.0, slow_shard=1.0, staleness=0)

    def __post_init__(self) -> None:
        if self.workers < 1 or self.staleness not in (0, 1):
            raise ValueError(
                f"a cluster must have workers and a staleness of 0 or 1, got {self.workers} "
                f"and {self.staleness}"
            )


@dataclass(frozen=True)
class Simulated:
    """Result of a simulation.

    Attributes:
        step_s: mean seconds of a step.
        waiting: share of the workers' time spent waiting for the slowest to compute.
        reading: share of their time spent waiting for rows.
    """

    step_s: float
    waiting: float
    reading: float


def simulate(cluster: Cluster, steps: int, seed: int = 0) -> Simulated:
    """Simulate some steps, including the first reads."""
    # The order of the draws (turns, stragglers, noise) is the one that the event queue of
    # tests/planner/test_simulate.py repeats.
    draws = np.random.default_rng(seed)
    sigma = float(np.sqrt(np.log1p(cluster.jitter**2)))  # lognormal noise with a mean of 1
    straggling_W = _straggling(cluster, draws)
    speeds = (cluster.slow_shard, 1.0)
    free = dict.fromkeys(speeds, 0.0)  # when shards of each speed have served all requests
    now = waited = read = 0.0
    ahead_W = None
    for _ in range(steps):
        ready_W = ahead_W if ahead_W is not None else _pulls(cluster, draws, free, now)
        begin_W = np.maximum(ready_W, now)
        if cluster.staleness:
            ahead_W = _pulls(cluster, draws, free, float(begin_W.max()))
        if not cluster.persistent:
            straggling_W = _straggling(cluster, draws)
        noise_W = np.exp(sigma * draws.standard_normal(cluster.workers) - sigma**2 / 2)
        factor_W = np.where(straggling_W, cluster.straggler_factor, 1.0)
        done_W = begin_W + cluster.compute_s * noise_W * factor_W
        end = float(done_W.max())
        read += float((begin_W - now).mean())
        waited += float((end - done_W).mean())
        now = end + cluster.reduce_s
        for speed in free:
            free[speed] = max(free[speed], now) + cluster.workers * cluster.push_s * speed
    return Simulated(now / steps, waited / now, read / now)


def relative_throughput(cluster: Cluster, steps: int, seed: int = 0) -> tuple[float, Simulated]:
    """Return steps/s relative to the undisturbed cluster, and the result of the simulation."""
    found = simulate(cluster, steps, seed)
    return simulate(cluster.undisturbed, steps).step_s / found.step_s, found


def _pulls(
    cluster: Cluster, draws: np.random.Generator, free: dict[float, float], now: float
) -> np.ndarray:
    """Return the time [W] when each worker has its rows: all ask at once and are served in turn."""
    turn_W = draws.permutation(cluster.workers) + 1
    ready_W = np.zeros(cluster.workers)
    for speed in free:
        start = max(free[speed], now)
        ready_W = np.maximum(ready_W, start + turn_W * cluster.pull_s * speed)
        free[speed] = start + cluster.workers * cluster.pull_s * speed
    return ready_W


def _straggling(cluster: Cluster, draws: np.random.Generator) -> np.ndarray:
    """Draw the stragglers, bool [W]: a fixed number, at least one if the share is above 0."""
    num = round(cluster.straggler_share * cluster.workers)
    num = max(num, 1) if cluster.straggler_share else 0
    chosen_W = np.zeros(cluster.workers, dtype=bool)
    chosen_W[draws.permutation(cluster.workers)[:num]] = True
    return chosen_W


@dataclass(frozen=True)
class Disturbed:
    """Result of a scenario, relative to the undisturbed synchronous cluster."""

    name: str
    staleness: int
    throughput: float
    found: Simulated


def cluster_of(cost: StepCost, layout: Layout, machine: Machine) -> Cluster:
    """Build the cluster to simulate from the cost of a layout's step; each worker keeps a shard."""
    sharers = layout.memory_workers
    link = link_between(machine, sharers)

    def busy(num_bytes: float, messages: int) -> float:
        return num_bytes / sharers / link.bytes_per_s + messages * link.overhead_s

    moved, messages = cost.bytes, 0 if sharers == 1 else 1
    return Cluster(
        layout.workers,
        cost.compute_s,
        busy(moved.ids + moved.pull, 2 * messages),
        busy(moved.push + moved.observe, messages),
        cost.reduce_s,
        machine.jitter,
    )


def disturbed(cluster: Cluster, steps: int = STEPS) -> list[Disturbed]:
    """Simulate every scenario, with synchronous reads and with reads one step ahead."""
    scenarios = {"jitter alone": cluster}
    for factor in (2.0, 5.0):
        name = f"1 worker in 100 takes {factor:g} times as long"
        slow = replace(cluster, straggler_share=0.01, straggler_factor=factor)
        scenarios[f"{name}, always the same"] = slow
        scenarios[f"{name}, others in each step"] = replace(slow, persistent=False)
    for factor in (2.0, 5.0):
        scenarios[f"one shard takes {factor:g} times as long"] = replace(cluster, slow_shard=factor)
    return [
        Disturbed(name, ahead, *relative_throughput(replace(scenario, staleness=ahead), steps))
        for name, scenario in scenarios.items()
        for ahead in (0, 1)
    ]
