"""Bytes that a forward pass saves for its backward pass, measured on small steps.

The saved bytes are linear in the number of events of a step, its distinct nodes and their pending
messages. The rates are fitted to small and large steps over synthetic events, with few and with
many nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.data import DataConfig
from pres_dist.config.run import RunConfig
from pres_dist.config.task import TaskConfig
from pres_dist.events.stream import EventStream
from pres_dist.planner.machine import fit_rates
from pres_dist.planner.touched import waiting_messages
from pres_dist.training.loss import batch_loss
from pres_dist.training.setup import Parts, assemble, split_data

_EVENTS = 3000
_STEPS = (64, 256)
_NODES = (32, 400, 4000)


@dataclass(frozen=True)
class SavedBytes:
    """Saved bytes of a step: fixed, and per event, distinct node and pending message."""

    fixed: float
    event: float
    node: float
    message: float

    def bytes(self, events: float, nodes: float, messages: float) -> float:
        """Return the saved bytes of a step with these events, distinct nodes and messages."""
        each = self.event * events + self.node * nodes + self.message * messages
        return self.fixed + each


@dataclass(frozen=True)
class MeasuredStep:
    """Sizes of a measured step, and the bytes that autograd saved for it."""

    events: int
    nodes: int
    messages: int
    saved: int


@cache
def saved_bytes(config: RunConfig, edge_dim: int, node_dim: int) -> SavedBytes:
    """Fit the rates of a model over a stream with the given feature sizes."""
    steps = [
        measured_step(config, edge_dim, node_dim, num_nodes, num_events)
        for num_nodes in _NODES
        for num_events in _STEPS
    ]
    rows = [[1.0, step.events, step.nodes, step.messages] for step in steps]
    return SavedBytes(*fit_rates(rows, [step.saved for step in steps]))


def measured_step(
    config: RunConfig, edge_dim: int, node_dim: int, num_nodes: int, num_events: int
) -> MeasuredStep:
    """Run a step over synthetic events and count the bytes that autograd saves."""
    with torch.random.fork_rng(devices=[]):
        parts = _parts(config, edge_dim, node_dim, num_nodes, num_events)
        num = len(parts.train_loader) - 2  # the last batch is a remainder
        pipeline = parts.train_pipeline
        for number in (num - 1, num):  # the second step reads messages of the first
            batch = parts.train_loader.batch(parts.data.tables, number)
            draws = (batch.src_B, batch.dst_B, batch.events_B)
            negatives = parts.train_negatives.sample(*draws, parts.task.num_negatives, 1)
            plan = pipeline.plan([batch], [negatives], 1)
            pulled = pipeline.read(plan)
            # Each storage counts once, and those of the weights do not count.
            kept = {p.untyped_storage().data_ptr(): p.detach() for p in parts.model.parameters()}
            weights = set(kept)

            def keep(tensor: Tensor, kept: dict[int, Tensor] = kept) -> Tensor:
                kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                forward = pipeline.forward(plan, pulled)
                targets = parts.task.targets(batch.events_B)
                weight = config.pres.coherence_weight
                batch_loss(forward, weight, batch.num_events, targets)
            pipeline.commit(plan, pulled, [forward], learn=True)
    saved = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in weights)
    nodes, messages = plan.nodes_V.numel(), waiting_messages(pulled)
    return MeasuredStep(batch.num_events, nodes, messages, saved)


def _parts(config: RunConfig, edge_dim: int, node_dim: int, num_nodes: int, batch: int) -> Parts:
    draws = np.random.default_rng(0)
    stream = EventStream.from_arrays(
        draws.integers(0, num_nodes, _EVENTS),
        draws.integers(0, num_nodes, _EVENTS),
        np.arange(_EVENTS),
        num_nodes=num_nodes,
        edge_features=np.ones((_EVENTS, edge_dim), np.float32) if edge_dim else None,
        node_features=np.ones((num_nodes, node_dim), np.float32) if node_dim else None,
    )
    training = {"batch_size": batch, "events_per_step": 0, "device": "cpu"}
    own = config.model_copy(
        update={
            "data": DataConfig(stream="made-up"),
            "task": TaskConfig(),
            "training": config.training.model_copy(update=training),
            "memory": config.memory.model_copy(update={"store": "local", "staleness": 0}),
        }
    )
    return assemble(own, split_data(stream, own, torch.device("cpu")))
