"""The simulation against closed forms, and against one with a queue of events."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import pytest

from pres_dist.planner.simulate import Cluster, relative_throughput, simulate

EVEN = Cluster(workers=8, compute_s=0.1, pull_s=0.002, push_s=0.001, reduce_s=0.01)
STEPS = 50


def test_without_noise_a_step_is_the_sum_of_its_parts() -> None:
    # The first step finds shards that have no pushes to do.
    step = 0.1 + 8 * 0.002 + 0.01 + 8 * 0.001
    assert simulate(EVEN, STEPS).step_s == pytest.approx(step - 8 * 0.001 / STEPS)
    assert relative_throughput(EVEN, STEPS)[0] == pytest.approx(1)


@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_one_straggler_holds_up_all(factor: float) -> None:
    lone = replace(EVEN, pull_s=0.0, push_s=0.0, straggler_share=0.01, straggler_factor=factor)
    found = simulate(lone, STEPS)
    assert found.step_s == pytest.approx(0.1 * factor + 0.01)
    # Seven of eight wait while the straggler computes.
    assert found.waiting == pytest.approx(7 / 8 * 0.1 * (factor - 1) / found.step_s)
    others = simulate(replace(lone, persistent=False), STEPS)
    assert others.step_s == pytest.approx(found.step_s)


def test_a_slow_shard_holds_up_every_read() -> None:
    slow = simulate(replace(EVEN, slow_shard=3.0), STEPS)
    step = 0.1 + 0.01 + 3 * 8 * 0.003
    assert slow.step_s == pytest.approx(step - 3 * 8 * 0.001 / STEPS)


def test_reads_one_step_ahead_are_hidden_while_shards_keep_up() -> None:
    ahead = simulate(replace(EVEN, staleness=1), 500)
    assert ahead.step_s == pytest.approx(0.1 + 0.01, rel=0.01)
    assert ahead.reading < 0.01
    # A shard that is busier than workers compute sets the pace, ahead or not.
    busy = replace(EVEN, pull_s=0.05, staleness=1)
    assert simulate(busy, 500).step_s == pytest.approx(8 * 0.051, rel=0.02)


def test_jitter_costs_the_slowest_of_all() -> None:
    noisy = replace(EVEN, workers=64, pull_s=0.0, push_s=0.0, reduce_s=0.0, jitter=0.2)
    sigma = np.sqrt(np.log1p(0.04))
    draws = np.random.default_rng(5).standard_normal((4000, 64))
    slowest = np.exp(sigma * draws - sigma**2 / 2).max(1).mean()
    assert simulate(noisy, 4000).step_s == pytest.approx(0.1 * slowest, rel=0.01)


def test_it_is_a_function_of_its_seed() -> None:
    noisy = replace(EVEN, jitter=0.3)
    assert simulate(noisy, STEPS, seed=1) == simulate(noisy, STEPS, seed=1)
    assert simulate(noisy, STEPS, seed=1) != simulate(noisy, STEPS, seed=2)


@pytest.mark.parametrize("staleness", [0, 1])
@pytest.mark.parametrize("slow_shard", [1.0, 4.0, 12.0])
def test_it_agrees_with_a_queue_of_events(staleness: int, slow_shard: float) -> None:
    cluster = replace(
        EVEN,
        workers=5,
        compute_s=0.03,
        jitter=0.4,
        straggler_share=0.2,
        straggler_factor=2.0,
        slow_shard=slow_shard,
        staleness=staleness,
    )
    ended = _Queue(cluster, 30, seed=3).run()
    assert simulate(cluster, 30, seed=3).step_s == pytest.approx(ended / 30)


class _Queue:
    """Time at which the last step ends, by events taken one by one from a queue.

    Each of three shards is a server with a line of jobs; the first one is the slow one. Draws
    are made beforehand, in the order of the simulation's.
    """

    SHARDS = 3

    def __init__(self, cluster: Cluster, steps: int, seed: int) -> None:
        self.cluster, self.steps = cluster, steps
        draws = np.random.default_rng(seed)
        num = max(round(cluster.straggler_share * cluster.workers), 1)
        slow = draws.permutation(cluster.workers)[:num]
        self.turns, self.takes = [self._turns(draws)], []
        for _ in range(steps):
            if cluster.staleness:
                self.turns.append(self._turns(draws))
            self.takes.append(self._computing(draws, slow))
            if not cluster.staleness:
                self.turns.append(self._turns(draws))
        self.events: list[tuple[float, int, str, int, int]] = []
        self.lines: list[list[tuple[str, int, int]]] = [[] for _ in range(self.SHARDS)]
        self.busy = [False] * self.SHARDS
        self.answers: dict[tuple[int, int], int] = {}
        self.opened, self.begun, self.done, self.number = {0}, {}, {}, 0

    def _turns(self, draws: np.random.Generator) -> list[int]:
        """Workers in the order in which they are served; what is drawn is the turn of each."""
        return np.argsort(draws.permutation(self.cluster.workers)).tolist()

    def _computing(self, draws: np.random.Generator, slow: np.ndarray) -> np.ndarray:
        sigma = np.sqrt(np.log1p(self.cluster.jitter**2))
        noise = np.exp(sigma * draws.standard_normal(self.cluster.workers) - sigma**2 / 2)
        noise[slow] *= self.cluster.straggler_factor
        return self.cluster.compute_s * noise

    def run(self) -> float:
        self._send(0.0, "pull", self.turns[0], 0)
        while True:
            now, _, kind, who, step = heapq.heappop(self.events)
            if kind == "served":
                self.busy[who] = False
                self._serve(now, who)
            elif kind == "answer":
                self.answers[step, who] = self.answers.get((step, who), 0) + 1
                self._begin(now, step, who)
            elif kind == "done":
                self.done[step] = self.done.get(step, 0) + 1
                if self.done[step] == self.cluster.workers:
                    self._at(now + self.cluster.reduce_s, "open", 0, step + 1)
            elif kind == "open":
                if step == self.steps:
                    return now
                self.opened.add(step)
                self._send(now, "push", list(range(self.cluster.workers)), step)
                if not self.cluster.staleness:
                    self._send(now, "pull", self.turns[step], step)
                for worker in range(self.cluster.workers):
                    self._begin(now, step, worker)

    def _at(self, time: float, kind: str, who: int, step: int) -> None:
        self.number += 1
        heapq.heappush(self.events, (time, self.number, kind, who, step))

    def _send(self, now: float, job: str, workers: list[int], step: int) -> None:
        for shard in range(self.SHARDS):
            self.lines[shard] += [(job, worker, step) for worker in workers]
            self._serve(now, shard)

    def _serve(self, now: float, shard: int) -> None:
        if self.busy[shard] or not self.lines[shard]:
            return
        self.busy[shard] = True
        job, worker, step = self.lines[shard].pop(0)
        took = self.cluster.pull_s if job == "pull" else self.cluster.push_s
        end = now + took * (self.cluster.slow_shard if shard == 0 else 1.0)
        if job == "pull":
            self._at(end, "answer", worker, step)
        self._at(end, "served", shard, step)

    def _begin(self, now: float, step: int, worker: int) -> None:
        """Compute, once all shards have answered and the step before has ended."""
        if step not in self.opened or self.answers.get((step, worker), 0) < self.SHARDS:
            return
        self._at(now + self.takes[step][worker], "done", worker, step)
        self.begun[step] = self.begun.get(step, 0) + 1
        if self.cluster.staleness and self.begun[step] == self.cluster.workers:
            self._send(now, "pull", self.turns[step + 1], step + 1)
