"""The stream and the configurations that the leak suite runs over.

A new kind of model joins the suite by a line in VARIANTS.
"""

from __future__ import annotations

import numpy as np

from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream

TRAIN_END, VALIDATION_END, NUM_EVENTS = 60, 80, 100
TIES = (30, 70, 90)
"""Events at the time of the one before, where batches would end if ties could be parted."""

SMALL = {
    "data.train_share": 0.6,
    "data.validation_share": 0.2,
    "memory.dim": 6,
    "model.embedding_dim": 8,
    "model.time_dim": 5,
    "sampling.num_neighbors": 3,
    "training.epochs": 2,
    "training.batch_size": 15,
    "training.learning_rate": 0.02,
    "training.device": "cpu",
    "evaluation.batch_size": 10,
    "evaluation.num_negatives": 2,
}
VARIANTS: dict[str, dict[str, object]] = {
    "attention": {},
    "3 slots in order": {"model.aggregator": "sequential", "memory.mailbox_slots": 3},
    "2 layers, uniform": {
        "model.num_layers": 2,
        "sampling.strategy": "uniform",
    },
    "time projection": {"model.embedding": "time", "pres.prediction": False},
    "memory alone, staleness 1": {"model.embedding": "identity", "memory.staleness": 1},
    "graph sum, 2 slices, staleness 1": {
        "model.embedding": "sum",
        "parallel.slices": 2,
        "memory.staleness": 1,
    },
    "nodes held out, replay": {"data.held_out_share": 0.15, "evaluation.memory": "replay"},
    "historical, inductive": {
        "sampling.negatives": "historical",
        "sampling.num_negatives": 2,
        "evaluation.negatives": "inductive",
    },
    "several steps": {
        "pres.coherence_weight": 0.01,
        "training.events_per_step": 4,
    },
    "preset paper": {"preset": "paper"},
    "jodie": {"model.kind": "jodie", "training.events_per_step": 6},
    "dyrep": {"model.kind": "dyrep", "memory.dim": 8, "memory.mailbox_slots": 2},
    "apan": {"model.kind": "apan", "memory.mailbox_slots": 3},
    "history": {"model.decoder": "history", "training.events_per_step": 6},
    "history, nodes held out": {"model.decoder": "history", "data.held_out_share": 0.15},
    "history without neighbors": {
        "model.decoder": "history",
        "model.kind": "jodie",
        "parallel.slices": 2,
        "sampling.negatives": "random 2, historical, inductive, popular",
        "sampling.num_negatives": 2,
    },
    "tgat": {"model.kind": "tgat", "sampling.num_neighbors": 2},
}
DAILY = {
    "attention",
    "memory alone, staleness 1",
    "nodes held out, replay",
    "historical, inductive",
    "dyrep",
    "apan",
    "tgat",
    "history without neighbors",
}
"""One variant of each kind of model, memory, negatives and evaluation; the others run nightly."""
REPLICAS: dict[str, object] = {"parallel.replicas": 2}
"""Needs two workers."""


def config_of(overrides: dict[str, object]) -> RunConfig:
    values = SMALL | overrides
    return load_config(None, [text for k, v in values.items() for text in (f"--{k}", str(v))])


def small_stream(seed: int = 1) -> EventStream:
    """Any node may meet any; ties, self-loops, busy nodes, repeated pairs, labels, features.

    Two nodes are met only after training, and two never. No tie runs across the end of a part.
    """
    random = np.random.default_rng(seed)
    src, dst = (random.integers(0, 12, (2, NUM_EVENTS)) ** 2) // 12
    late = TRAIN_END + np.flatnonzero(random.random(NUM_EVENTS - TRAIN_END) < 0.2)
    dst[late] = random.integers(14, 16, late.size)
    gaps = random.choice([0, 0, 1, 2, 5], NUM_EVENTS)
    gaps[[0, TRAIN_END, VALIDATION_END]] = 1
    ties = list(TIES)
    gaps[ties], src[ties] = 0, src[[tie - 1 for tie in ties]]
    return EventStream.from_arrays(
        src,
        dst,
        1_700_000_000_000 + np.cumsum(gaps),
        name="small",
        num_nodes=16,
        edge_features=random.standard_normal((NUM_EVENTS, 3)).astype(np.float32),
        node_features=random.standard_normal((16, 2)).astype(np.float32),
        labels=random.integers(0, 2, NUM_EVENTS),
    )
