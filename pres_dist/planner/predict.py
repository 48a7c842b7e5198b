"""Predict the cost of a step: compute, exchange of rows, all-reduce of gradients, waiting.

The formulas model the collectives that the code calls. Rows are sent by `all_to_all_single`
between all workers (`RowExchange`). Gradients are summed by a reduce-scatter and an all-gather
(`World.all_reduce_parts`), which moves 2 (W - 1) / W of the gradient, like a ring, in 2 (W - 1)
messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from pres_dist.memory.all_to_all import ID_BYTES, block_numbers
from pres_dist.memory.exchange import KINDS
from pres_dist.planner.footprint import RowBytes, gradient_numbers, row_bytes
from pres_dist.planner.layout import Layout
from pres_dist.planner.machine import Link, Machine
from pres_dist.planner.touched import Touched, TouchModel, of_slice
from pres_dist.planner.workload import Workload

_FLOAT_BYTES = 4
_LOSSES = 4
"""Number of values appended to the gradient in an all-reduce."""


@dataclass(frozen=True)
class StepBytes:
    """Bytes that a worker sends to or requests from other workers in a step.

    The bytes of a pull count once, at the worker that requests them, as in `Traffic`.
    """

    ids: float
    pull: float
    push: float
    observe: float
    gradients: float

    @property
    def rows(self) -> float:
        """Return the bytes that the store moves: everything but the gradients."""
        return self.ids + self.pull + self.push + self.observe

    @property
    def total(self) -> float:
        """Return all bytes."""
        return self.rows + self.gradients


@dataclass(frozen=True)
class StepCost:
    """Cost of a step for an average worker.

    Attributes:
        events: events that all replicas train in the step.
        touched: distinct nodes of a slice.
        bytes: bytes that a worker moves.
        compute_s, exchange_s, reduce_s, wait_s: wall-clock seconds of computing, of pulls and
            pushes, of the all-reduce of gradients, and of waiting for the slowest worker.
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
    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase of a step, by name."""
        return {
            "computing": self.compute_s,
            "exchanging rows": self.exchange_s,
            "adding up gradients": self.reduce_s,
            "waiting for the slowest": self.wait_s,
        }

    @property
    def step_s(self) -> float:
        """Return the seconds of a step."""
        return self.compute_s + self.exchange_s + self.reduce_s + self.wait_s

    @property
    def events_per_s(self) -> float:
        """Return the events that all replicas train per second."""
        return self.events / self.step_s


def predict(workload: Workload, layout: Layout, machine: Machine, touch: TouchModel) -> StepCost:
    """Predict the cost of a step."""
    rows, touched = row_bytes(workload.config), of_slice(workload, layout, touch)
    moved = step_bytes(workload, layout, touch, rows)
    sharers, workers = layout.memory_workers, layout.workers
    updates = workload.num_updates(layout.batch)

    # Each optimizer step computes its own events, and applies all pending messages.
    events = layout.local_batch / updates
    nodes, waiting = touch.touched(events).pulled, touch.waiting(events, layout.batch)
    at_owner = rows.at_owner > 0 and sharers > 1
    # A worker embeds the nodes of its slice, and updates those or its share of the whole batch's.
    updated = touch.touched(layout.batch).pulled / sharers if at_owner else nodes
    compute_s = updates * machine.compute.seconds(events, nodes, updated * waiting.pulled)
    compute_s -= updates * (nodes - updated) * machine.update.node_s
    if updates > 1:  # the written rows are recomputed once per slice with the final weights
        messages = touched.written * touch.waiting(layout.local_batch, layout.batch).written
        compute_s += machine.update.seconds(layout.local_batch, touched.written, messages)

    rates = machine.local_store if sharers == 1 else machine.sharded_store
    store_s = rates.seconds(layout.local_batch, touched.pulled)
    link = link_between(machine, sharers)
    # Ids, rows, push and observation; or rows and their gradients, where ids travel with the
    # gradients of weights.
    reads = 2 + (at_owner and layout.replicas > 1)
    writes = 0 if at_owner else 1 + (rows.observe > 0)
    # The busiest owner sets the pace: the fullest of W owners, each with `pulled` rows on average.
    uneven = 1 + _largest_normal(sharers) / math.sqrt(max(touched.pulled, 1.0))
    read_s = _wall(link, sharers, reads, (moved.ids + moved.pull) * uneven)
    write_s = _wall(link, sharers, writes, (moved.push + moved.observe) * uneven)
    # With prefetching, rows arrive while the previous step computes.
    hidden_s = min(compute_s, read_s) if workload.config.memory.staleness else 0.0

    reduce_s = _wall(link_between(machine, workers), workers, 2 * updates, moved.gradients)

    messages = (reads + writes) * (sharers - 1) + 2 * updates * (workers - 1)
    cpu_s = compute_s + store_s + messages * link.overhead_s
    # `cpu_s_per_byte` covers both ends: a worker sends and receives about as many bytes.
    cpu_s += (moved.rows + moved.gradients) * link.cpu_s_per_byte
    return StepCost(
        layout.batch * layout.replicas,
        touched,
        moved,
        compute_s,
        store_s + read_s + write_s - hidden_s,
        reduce_s,
        compute_s * waiting_share(workers, machine.jitter),
        cpu_s,
    )


def one_worker(workload: Workload, batch: int, machine: Machine, touch: TouchModel) -> StepCost:
    """Predict one worker that computes the whole temporal batch, the baseline of efficiency."""
    return predict(workload, Layout(1, 1, 1, batch), machine, touch)


def efficiency(cost: StepCost, workers: int, alone: StepCost) -> float:
    """Return events/s per worker, relative to one worker with the same temporal batch."""
    return cost.events_per_s / workers / alone.events_per_s


def work_inflation(cost: StepCost, workers: int, alone: StepCost) -> float:
    """Return total CPU time per event, relative to one worker with the same temporal batch."""
    return cost.cpu_s * workers / cost.events / (alone.cpu_s / alone.events)


def step_bytes(workload: Workload, layout: Layout, touch: TouchModel, rows: RowBytes) -> StepBytes:
    """Return the bytes that a worker moves in a step."""
    touched, sharers = of_slice(workload, layout, touch), layout.memory_workers
    remote = 1 - 1 / sharers
    block = block_numbers(largest_block(touched.pulled, sharers), KINDS) * ID_BYTES
    numbers = gradient_numbers(workload.config, workload.edge_dim, workload.node_dim) + _LOSSES
    share = 2 * (layout.workers - 1) / layout.workers
    gradients = share * numbers * _FLOAT_BYTES * workload.num_updates(layout.batch)
    if rows.at_owner:  # an owner also reads the partners of its nodes: left out, for they are few
        pulled = touched.pulled * remote * rows.at_owner
        return StepBytes((sharers - 1) * block, pulled, 0.0, 0.0, gradients)
    return StepBytes(
        ids=(sharers - 1) * block,
        pull=touched.pulled * remote * rows.pull,
        # Only one of the `epochs` groups writes.
        push=touched.written * remote * rows.push / layout.epochs,
        observe=touched.observed * remote * rows.observe,
        gradients=gradients,
    )


def largest_block(pulled: float, sharers: int) -> float:
    """Return the expected number of ids in the fullest block of a pull.

    All blocks have that capacity. A worker's nodes are assigned to owners at random, and the
    fullest of W x W blocks counts.
    """
    mean = pulled / sharers
    return mean + math.sqrt(mean * (1 - 1 / sharers)) * _largest_normal(sharers * sharers)


def waiting_share(workers: int, jitter: float) -> float:
    """Return how much longer the slowest of W workers computes than the average, as a fraction.

    Times are lognormal with mean 1 and standard deviation `jitter`. The largest of W is
    approximated by Blom's quantile (1958).
    """
    if workers == 1 or not jitter:
        return 0.0
    sigma = math.sqrt(math.log1p(jitter * jitter))
    return math.exp(sigma * _largest_normal(workers) - sigma * sigma / 2) - 1


def _largest_normal(num: int) -> float:
    """Approximate the expected largest of `num` standard normal numbers."""
    return NormalDist().inv_cdf((num - 0.375) / (num + 0.25)) if num > 1 else 0.0


def link_between(machine: Machine, workers: int) -> Link:
    """Return the loopback on a single node, else a worker's share of its node's network."""
    if workers <= machine.workers_per_node:
        return machine.loopback
    share = machine.network.bytes_per_s / machine.workers_per_node
    return machine.network.model_copy(update={"bytes_per_s": share})


def _wall(link: Link, workers: int, rounds: float, num_bytes: float) -> float:
    """Return the wall-clock seconds of exchanges between workers."""
    if workers == 1:
        return 0.0
    each = link.latency_s + (workers - 2) * link.overhead_s
    return rounds * each + num_bytes / link.bytes_per_s
