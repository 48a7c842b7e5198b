"""Scenarios to simulate for a plan: stragglers, slow shards and node failures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pres_dist.planner.failures import Failures, best_interval, daly, useful_share, young
from pres_dist.planner.footprint import saved_by_a_node
from pres_dist.planner.machine import Machine
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.predict import StepCost, link_between
from pres_dist.planner.simulate import Cluster, Simulated, relative_throughput
from pres_dist.planner.workload import Workload

STEPS = 400
LOSSES = 20_000
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Disturbed:
    """Result of a scenario, relative to the undisturbed synchronous cluster."""

    name: str
    staleness: int
    throughput: float
    found: Simulated


@dataclass(frozen=True)
class Lossy:
    """Training with failures and the best checkpoint interval.

    Attributes:
        failures: failures of the cluster.
        best_s, young_s, daly_s: seconds between checkpoints: the best in the simulation, and by
            the formulas of Young and Daly.
        useful: share of time whose training is not lost, at the best interval.
    """

    failures: Failures
    best_s: float
    young_s: float
    daly_s: float
    useful: float


def cluster_of(cost: StepCost, plan: ParallelPlan, machine: Machine, staleness: int = 0) -> Cluster:
    """Build the cluster to simulate from the cost of a plan's step; each worker keeps a shard."""
    sharers = plan.memory_workers
    link = link_between(machine, sharers)

    def busy(num_bytes: float, messages: int) -> float:
        return num_bytes / sharers / link.bytes_per_s + messages * link.overhead_s

    moved, messages = cost.bytes, 0 if sharers == 1 else 1
    return Cluster(
        plan.workers,
        cost.compute_s,
        busy(moved.ids + moved.pull, 2 * messages),
        busy(moved.push + moved.observe, messages),
        cost.reduce_s,
        machine.jitter,
        staleness=staleness,
    )


def disturbances(cluster: Cluster) -> Iterator[tuple[str, Cluster]]:
    """Yield the scenarios, by name."""
    yield "jitter alone", cluster
    for factor in (2.0, 5.0):
        slow = replace(cluster, straggler_share=0.01, straggler_factor=factor)
        yield f"1 worker in 100 takes {factor:g} times as long, always the same", slow
        yield (
            f"1 worker in 100 takes {factor:g} times as long, others in each step",
            replace(slow, persistent=False),
        )
    yield "one shard takes 2 times as long", replace(cluster, slow_shard=2.0)
    yield "one shard takes 5 times as long", replace(cluster, slow_shard=5.0)


def disturbed(cluster: Cluster, steps: int = STEPS) -> list[Disturbed]:
    """Simulate every scenario, with synchronous reads and with reads one step ahead."""
    rows = []
    for name, scenario in disturbances(cluster):
        for staleness in (0, 1):
            own = replace(scenario, staleness=staleness)
            rows.append(Disturbed(name, staleness, *relative_throughput(own, steps)))
    return rows


def losses(
    workload: Workload, plan: ParallelPlan, machine: Machine, mtbf_hours: float, restart_s: float
) -> Lossy:
    """Simulate training where each node fails once in `mtbf_hours` on average.

    A checkpoint takes the time to send the rows of a node's workers over its network link to
    storage. The simulation stops training for that time; in fact training waits only for a copy.
    """
    nodes = machine.num_nodes(plan.workers)
    saved = saved_by_a_node(workload, plan, machine)
    save_s = max(saved / machine.network.bytes_per_s, 1e-3)
    failures = Failures(mtbf_hours * _HOUR_S / nodes, save_s, restart_s)
    best_s = best_interval(failures, LOSSES)
    useful = useful_share(failures, best_s, LOSSES)
    return Lossy(failures, best_s, young(failures), daly(failures), useful)
