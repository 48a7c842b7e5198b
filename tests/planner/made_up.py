"""A machine, a model and nodes per slice that tests plan with."""

from __future__ import annotations

from dataclasses import dataclass

from pres_dist.config.load import load_config
from pres_dist.config.run import RunConfig
from pres_dist.planner.machine import Link, Machine, Rates
from pres_dist.planner.touched import Touched, Waiting
from pres_dist.planner.workload import Workload

LINK = Link(latency_s=1e-5, overhead_s=1e-6, bytes_per_s=1e9, cpu_s_per_byte=1e-10)


def machine(**changes: object) -> Machine:
    values: dict[str, object] = {
        "name": "made-up",
        "origin": "a test",
        "workers_per_node": 4,
        "worker_memory_bytes": 1e9,
        "node_memory_bytes": 1e10,
        "loopback": LINK,
        "network": LINK,
        "compute": Rates(step_s=1e-3, event_s=5e-5, node_s=2e-5),
        "update": Rates(step_s=1e-4, node_s=1e-5),
        "local_store": Rates(step_s=1e-4, node_s=1e-7),
        "sharded_store": Rates(step_s=5e-4, node_s=1e-6),
    }
    return Machine.model_validate({**values, **changes})


@dataclass(frozen=True)
class RootTouches:
    """Distinct nodes that grow as a root of the events, and never beyond them."""

    scale: float = 20.0

    @property
    def origin(self) -> str:
        return "made up"

    def touched(self, events: float, share: float = 1.0) -> Touched:
        events *= share
        pulled = min(self.scale * events**0.7, 33 * events)
        return Touched(pulled, min(2 * events, pulled), min(events, pulled))

    def waiting(self, events: float, batch: float) -> Waiting:
        """One message after a small batch, two after one of 1,000 events."""
        messages = 1 + batch / 1000
        return Waiting(messages, messages)


def small_model(**overrides: object) -> RunConfig:
    """A small model, one message a node; keyword arguments override, with __ for dots."""
    values = {
        "preset": "paper",
        "memory.dim": 8,
        "model.embedding_dim": 8,
        "model.time_dim": 6,
        "model.decoder": "embeddings",
        "sampling.num_neighbors": 4,
        "sampling.negatives": "random",
        "training.optimizer": "adamw",
        "memory.update": "reader",
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    return load_config(None, [text for name, v in values.items() for text in (f"--{name}", str(v))])


def workload(num_nodes: int = 10_000, num_events: int = 1_000_000, **overrides: object) -> Workload:
    return Workload(small_model(**overrides), num_nodes, num_events)
