"""What stragglers, slow shards and lost nodes do to a plan: the simulation's questions."""

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
    """A scenario and what came of it, relative to the undisturbed synchronous cluster."""

    name: str
    staleness: int
    throughput: float
    found: Simulated


@dataclass(frozen=True)
class Lossy:
    """Training among failures, saved as often as does most good.

    Attributes:
        failures: of the cluster.
        best_s, young_s, daly_s: seconds between checkpoints: best in the simulation, and by
            formula.
        useful: share of the time that ends up in weights, at the best interval.
    """

    failures: Failures
    best_s: float
    young_s: float
    daly_s: float
    useful: float


def cluster_of(cost: StepCost, plan: ParallelPlan, machine: Machine, staleness: int = 0) -> Cluster:
    """The cluster that a plan's step describes; each worker keeps a shard."""
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
    """The scenarios, by name."""
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
    """Every scenario, with synchronous reads and with reads one step ahead."""
    rows = []
    for name, scenario in disturbances(cluster):
        for staleness in (0, 1):
            own = replace(scenario, staleness=staleness)
            rows.append(Disturbed(name, staleness, *relative_throughput(own, steps)))
    return rows


def losses(
    workload: Workload, plan: ParallelPlan, machine: Machine, mtbf_hours: float, restart_s: float
) -> Lossy:
    """Training where each node is lost once in so many hours.

    A checkpoint takes as long as the rows of a node's workers need over its link, to whatever
    keeps the files, and counts as if training waited for it, which it does only to copy.
    """
    nodes = machine.num_nodes(plan.workers)
    saved = saved_by_a_node(workload, plan, machine)
    save_s = max(saved / machine.network.bytes_per_s, 1e-3)
    failures = Failures(mtbf_hours * _HOUR_S / nodes, save_s, restart_s)
    best_s = best_interval(failures, LOSSES)
    useful = useful_share(failures, best_s, LOSSES)
    return Lossy(failures, best_s, young(failures), daly(failures), useful)
