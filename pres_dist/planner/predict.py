"""What a step of a plan takes: computing, exchanging rows, adding up gradients, waiting.

Formulas are those of the collectives that the code calls. Rows go by `all_to_all_single`,
each worker to each other (`RowExchange`); gradients by an exchange of shares and a gathering
of sums (`World.all_reduce_parts`), which moves 2 (W - 1) / W of the gradient, as a ring does, in
2 (W - 1) messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from pres_dist.memory.exchange import ID_BYTES, block_numbers
from pres_dist.planner.footprint import RowBytes, gradient_numbers, row_bytes
from pres_dist.planner.machine import Link, Machine
from pres_dist.planner.plan import ParallelPlan
from pres_dist.planner.touched import Touched, TouchModel, of_slice
from pres_dist.planner.workload import Workload

_FLOAT_BYTES = 4
_LOSSES = 4
"""Numbers behind the gradient in what is added up."""


@dataclass(frozen=True)
class StepBytes:
    """Bytes that a worker sends to or asks of other workers in a step.

    Those of a pull count once, at who asks, as in `Traffic`.
    """

    ids: float
    pull: float
    push: float
    observe: float
    gradients: float

    @property
    def rows(self) -> float:
        """What the store moves: all but the gradients."""
        return self.ids + self.pull + self.push + self.observe

    @property
    def total(self) -> float:
        return self.rows + self.gradients


@dataclass(frozen=True)
class StepCost:
    """A step of a plan, as an average worker has it.

    Attributes:
        events: that all replicas train in the step.
        touched: distinct nodes of a slice.
        bytes: moved.
        compute_s, exchange_s, reduce_s, wait_s: wall-clock seconds of computing, of pulls and
            pushes, of adding up gradients, and of waiting for the slowest.
        cpu_s: CPU seconds of a worker.
    """

    events: float
    touched: Touched
    bytes: StepBytes
    compute_s: float
    exchange_s: float
    reduce_s: float
    wait_s: float
    cpu_s: float

    @property
    def step_s(self) -> float:
        return self.compute_s + self.exchange_s + self.reduce_s + self.wait_s

    @property
    def events_per_s(self) -> float:
        return self.events / self.step_s


def predict(
    workload: Workload, plan: ParallelPlan, machine: Machine, touch: TouchModel
) -> StepCost:
    """The cost of a step of a plan."""
    rows = row_bytes(workload.config)
    moved = step_bytes(workload, plan, touch, rows)
    touched = of_slice(workload, plan, touch)
    compute_s = _compute(workload, plan, machine, touch)
    store_s = _store(plan, machine, touched)
    reads, writes = 2, 1 + (rows.observe > 0)  # ids and rows; push and observation
    link, peers = link_between(machine, plan.memory_workers), plan.memory_workers - 1
    uneven = _fullest(plan, touched)
    read_s = _wall(link, peers, reads, (moved.ids + moved.pull) * uneven)
    write_s = _wall(link, peers, writes, (moved.push + moved.observe) * uneven)
    updates = workload.num_updates(plan.batch)
    all_link, others = link_between(machine, plan.workers), plan.workers - 1
    barrier = 2 * updates * math.ceil(math.log2(plan.workers))
    reduce_s = _wall(all_link, others, 2 * updates, moved.gradients)
    reduce_s += barrier * all_link.latency_s
    messages = (reads + writes) * peers + 2 * updates * others + barrier
    cpu_s = compute_s + store_s + messages * link.overhead_s
    # Who sends a row has it to send, and who gets one has it to take: both are this worker.
    cpu_s += (moved.rows + moved.gradients) * link.cpu_s_per_byte
    # Rows that are read ahead come while the step before computes.
    hidden_s = min(compute_s, read_s) if workload.config.memory.staleness else 0.0
    return StepCost(
        plan.batch * plan.replicas,
        touched,
        moved,
        compute_s,
        store_s + read_s + write_s - hidden_s,
        reduce_s,
        compute_s * waiting_share(plan.workers, machine.jitter),
        cpu_s,
    )


def one_worker(workload: Workload, batch: int, machine: Machine, touch: TouchModel) -> StepCost:
    """One worker that computes the whole temporal batch: what efficiency is measured against."""
    return predict(workload, ParallelPlan(1, 1, 1, batch), machine, touch)


def efficiency(
    workload: Workload, plan: ParallelPlan, machine: Machine, touch: TouchModel
) -> float:
    """Events a second of each worker, over those of one worker with the same temporal batch."""
    alone = one_worker(workload, plan.batch, machine, touch).events_per_s
    return predict(workload, plan, machine, touch).events_per_s / plan.workers / alone


def work_inflation(
    workload: Workload, plan: ParallelPlan, machine: Machine, touch: TouchModel
) -> float:
    """CPU time of all workers an event, over that of one worker with the same temporal batch."""
    alone, cost = (
        one_worker(workload, plan.batch, machine, touch),
        predict(workload, plan, machine, touch),
    )
    return cost.cpu_s * plan.workers / cost.events / (alone.cpu_s / alone.events)


def step_bytes(
    workload: Workload, plan: ParallelPlan, touch: TouchModel, rows: RowBytes
) -> StepBytes:
    """What a worker moves in a step."""
    touched, sharers = of_slice(workload, plan, touch), plan.memory_workers
    remote = 1 - 1 / sharers
    block = block_numbers(largest_block(touched.pulled, sharers)) * ID_BYTES
    numbers = gradient_numbers(workload.config, workload.edge_dim, workload.node_dim) + _LOSSES
    share = 2 * (plan.workers - 1) / plan.workers
    return StepBytes(
        ids=(sharers - 1) * block,
        pull=touched.pulled * remote * rows.pull,
        # One group of `epochs` writes.
        push=touched.written * remote * rows.push / plan.epochs,
        observe=touched.observed * remote * rows.observe,
        gradients=share * numbers * _FLOAT_BYTES * workload.num_updates(plan.batch),
    )


def largest_block(pulled: float, sharers: int) -> float:
    """Ids in the fullest block of a pull: all blocks have room for as many.

    A worker's nodes are dealt to owners at random; the fullest of W x W blocks.
    """
    mean = pulled / sharers
    return mean + math.sqrt(mean * (1 - 1 / sharers)) * _largest_normal(sharers * sharers)


def waiting_share(workers: int, jitter: float) -> float:
    """How much longer the slowest of W workers computes than an average one.

    Times are lognormal with mean 1 and the deviation of the jitter; the largest of W is taken
    at its median quantile (Blom, 1958).
    """
    if workers == 1 or not jitter:
        return 0.0
    sigma = math.sqrt(math.log1p(jitter * jitter))
    return math.exp(sigma * _largest_normal(workers) - sigma * sigma / 2) - 1


def _largest_normal(num: int) -> float:
    """About the expected largest of so many standard normal numbers."""
    return NormalDist().inv_cdf((num - 0.375) / (num + 0.25)) if num > 1 else 0.0


def _compute(workload: Workload, plan: ParallelPlan, machine: Machine, touch: TouchModel) -> float:
    updates = workload.num_updates(plan.batch)
    events = plan.local_batch / updates
    nodes, waiting = touch.touched(events).pulled, touch.waiting(events, plan.batch)
    seconds = updates * machine.compute.seconds(events, nodes, nodes * waiting.pulled)
    if updates > 1:  # the last weights compute once more what is written, once for the slice
        written = of_slice(workload, plan, touch).written
        messages = written * touch.waiting(plan.local_batch, plan.batch).written
        seconds += machine.update.seconds(plan.local_batch, written, messages)
    return seconds


def _store(plan: ParallelPlan, machine: Machine, touched: Touched) -> float:
    rates = machine.local_store if plan.memory_workers == 1 else machine.sharded_store
    return rates.seconds(plan.local_batch, touched.pulled)


def _fullest(plan: ParallelPlan, touched: Touched) -> float:
    """Rows that the busiest owner is asked for, over their mean."""
    mean = touched.pulled  # W workers ask for so many each, of W owners
    return 1 + _largest_normal(plan.memory_workers) / math.sqrt(max(mean, 1.0))


def link_between(machine: Machine, workers: int) -> Link:
    """The way between so many workers: a worker's share of the network once there are nodes."""
    if workers <= machine.workers_per_node:
        return machine.loopback
    share = machine.network.bytes_per_s / machine.workers_per_node
    return machine.network.model_copy(update={"bytes_per_s": share})


def _wall(link: Link, peers: int, rounds: float, num_bytes: float) -> float:
    """Seconds of exchanges with so many partners."""
    if not peers:
        return 0.0
    each = link.latency_s + (peers - 1) * link.overhead_s
    return rounds * each + num_bytes / link.bytes_per_s
