"""Memory footprint: bytes of a node's row, stored and in transit, and of everything on a worker.

Sizes are read from the code that allocates: the columns of a store, the layout of a packed row,
the parameters of a model. None is hard-coded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from pres_dist.config.run import RunConfig
from pres_dist.memory.packing import RowLayout
from pres_dist.memory.shard_layout import ShardLayout, table_columns
from pres_dist.model.tgn import TGN, StreamShape
from pres_dist.planner.activations import saved_bytes
from pres_dist.planner.layout import Layout
from pres_dist.planner.machine import Machine
from pres_dist.planner.touched import TouchModel, of_slice
from pres_dist.planner.units import quantity
from pres_dist.planner.workload import Workload
from pres_dist.pres.statistics import NEGATIVE
from pres_dist.sampling.event_log import numbers_of
from pres_dist.sampling.stored_keys import on_disk
from pres_dist.training.optimizer import trainable
from pres_dist.training.stores import layout_of

_INT64 = torch.int64.itemsize
_FLOAT32 = torch.float32.itemsize
_KEY_LIMIT = 1 << 63
"""Exclusive upper bound on composite keys of the adjacency, node * events + event."""


@dataclass(frozen=True)
class RowBytes:
    """Bytes of one row.

    Attributes:
        state: bytes in a store, including statistics.
        pull, push: packed bytes of a pull and of a push.
        observe: packed bytes of a negative's transition; 0 if none is sent.
        at_owner: packed bytes of a row that its owner updates, and of its gradient; 0 if
            slices update what they read.
    """

    state: int
    pull: int
    push: int
    observe: int
    at_owner: int


@cache
def row_bytes(config: RunConfig) -> RowBytes:
    """Return the row sizes of a run."""
    layout = store_layout(config)
    shard = layout.make(1)
    pulled = shard.pull(torch.zeros(1, dtype=torch.int64))
    state = pulled.state
    observes = layout.num_components > NEGATIVE
    return RowBytes(
        sum(column.nbytes for column in table_columns(shard.state_dict())),
        RowLayout(pulled.columns()).num_bytes,
        RowLayout(state.columns()).num_bytes,
        RowLayout([state.memory_UD, state.last_update_U]).num_bytes if observes else 0,
        _bytes_at_owner(config),
    )


def _bytes_at_owner(config: RunConfig) -> int:
    if config.memory.update == "reader" or config.against_owner_updates is not None:
        return 0
    coheres = config.pres.coherence_weight > 0
    memory_UD, one_U = torch.zeros(1, config.memory.dim), torch.zeros(1)
    there = RowLayout([memory_UD, one_U, torch.zeros(1, dtype=torch.int64)])
    return there.num_bytes + RowLayout([memory_UD, one_U] if coheres else [memory_UD]).num_bytes


def store_layout(config: RunConfig) -> ShardLayout:
    """Return the layout of a run's rows; their sizes do not depend on the time unit."""
    return layout_of(config, 1.0, torch.device("cpu"))


@cache
def gradient_numbers(config: RunConfig, edge_dim: int, node_dim: int) -> int:
    """Return the number of trainable parameters; an all-reduce sends them and the losses."""
    # An upper bound: a bipartite stream has fewer pair features.
    num = len(numbers_of(bipartite=False)) if config.model.decoder == "history" else 0
    shape = StreamShape(edge_dim, node_dim, 1.0, num)
    with torch.random.fork_rng(devices=[]):
        model = TGN(config.model, config.memory, config.pres, shape)
    return sum(p.numel() for p in trainable(model))


@dataclass(frozen=True)
class Part:
    """A part of memory.

    Attributes:
        name: short name, as in `PlanConfig.spread`.
        what: description.
        bytes: bytes per worker, or per node if `of_node`.
        of_node: True if it is host memory that the workers of a node share.
    """

    name: str
    what: str
    bytes: float
    of_node: bool = False


def footprint(
    workload: Workload,
    layout: Layout,
    machine: Machine,
    touch: TouchModel,
    spread: Sequence[str] = (),
) -> list[Part]:
    """Return the memory of a worker while it trains and of a node while it saves, largest first.

    Args:
        workload: the training.
        layout: its layout.
        machine: its hardware.
        touch: model of the distinct nodes of a slice.
        spread: parts to count as if they were sharded over the workers of a memory.
    """
    config, sharers = workload.config, layout.memory_workers
    nodes, events = workload.num_nodes, workload.num_events

    # The stream and its nodes, which every worker keeps as a whole.
    on_cpu = machine.device == "cpu"  # where workers share memory-mapped files
    shared = on_cpu and on_disk(config.sampling.adjacency, events)
    destinations = (nodes - workload.num_sources) * _INT64
    parts = [
        Part("adjacency", "temporal adjacency, whole", 2 * events * _INT64, of_node=shared),
        Part("destinations", "ids of all destinations (at most)", destinations),
        Part("unseen", "mask of nodes unseen in training", nodes * torch.bool.itemsize),
    ]
    if config.model.decoder == "history":
        pairs = Part("pairs", "pairs of the event log", 2 * events * _INT64, of_node=shared)
        parts.insert(0, pairs)
    if not on_cpu:
        columns = events * (3 * _INT64 + workload.edge_dim * _FLOAT32)
        columns += nodes * workload.node_dim * _FLOAT32
        parts.append(Part("events", "columns of all events", columns))

    # A step. A single worker keeps the rows of all nodes in order, and needs no table of owners.
    state = store_layout(config).num_bytes(-(-nodes // sharers))
    state -= nodes * _INT64 if sharers == 1 else 0
    numbers = gradient_numbers(config, workload.edge_dim, workload.node_dim)
    step_events = layout.local_batch / workload.num_updates(layout.batch)
    whole, one = of_slice(workload, layout, touch), touch.touched(step_events)
    messages = one.pulled * touch.waiting(step_events, layout.batch).pulled
    saved = saved_bytes(config, workload.edge_dim, workload.node_dim)
    activations = saved.bytes(step_events, one.pulled, messages)
    parts += [
        Part("state", "node state", state),
        Part("weights", "weights, gradients, Adam's moments", 4 * numbers * _FLOAT32),
        Part("gradients", "rows of gradients on the way", 5 * numbers * _FLOAT32),
        Part("activations", "saved for the backward pass", activations),
        Part("rows", "rows on the way, and a copy", 3 * whole.pulled * row_bytes(config).pull),
    ]
    parts = [
        Part(part.name, f"{part.what}, spread", part.bytes / sharers)
        if part.name in spread
        else part
        for part in parts
    ]
    # Workers copy their rows, and threads write the copies.
    copies = saved_by_a_node(workload, layout, machine)
    what = "copies of node state while they are saved"
    parts.append(Part("checkpoint", what, copies, of_node=True))
    return sorted(parts, key=lambda part: -part.bytes)


def obstacles(workload: Workload, spread: Sequence[str] = ()) -> list[str]:
    """Return the reasons why this version cannot train on the stream with any amount of memory."""
    keys = workload.num_nodes * workload.num_events
    if keys < _KEY_LIMIT or "adjacency" in spread:
        return []
    return [
        f"adjacency: node x event keys must be below 2^63 = {_KEY_LIMIT:.2e}, got "
        f"{workload.num_nodes:.2e} nodes x {workload.num_events:.2e} events = {keys:.2e}"
    ]


def over_limit(parts: Sequence[Part], machine: Machine) -> list[str]:
    """Return a message for each memory that is too small; an empty list if everything fits."""
    own = [part for part in parts if not part.of_node]
    on_node = [part for part in parts if part.of_node]
    if machine.device == "cpu":  # its workers fill the memory of a node
        on_node += [replace(part, bytes=part.bytes * machine.workers_per_node) for part in own]
    problems = []
    for whose, held, limit in (
        ("a worker", own, machine.worker_memory_bytes),
        ("a node", on_node, machine.node_memory_bytes),
    ):
        total = sum(part.bytes for part in held)
        if total > limit:
            largest = max(held, key=lambda part: part.bytes)
            problems.append(
                f"{whose} needs {quantity(total, 'B')} of {quantity(limit, 'B')}, "
                f"{quantity(largest.bytes, 'B')} of them for {largest.what}"
            )
    return problems


def saved_by_a_node(workload: Workload, layout: Layout, machine: Machine) -> int:
    """Return the bytes that the workers of a node write to a checkpoint: rows and their nodes."""
    rows = -(-workload.num_nodes // layout.memory_workers)
    here = min(machine.workers_per_node, layout.workers)
    return here * store_layout(workload.config).num_bytes(rows)
