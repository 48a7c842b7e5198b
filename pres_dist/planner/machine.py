"""Compute and communication rates of a machine, measured or given.

Links follow the alpha-beta model with alpha in two parts, as in LogGP (Alexandrov et al.,
SPAA 1995): one latency per exchange, and one overhead per message, which is summed over the
partners of an exchange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.config.load import validated
from pres_dist.config.source import read_source
from pres_dist.errors import ConfigError


class Link(Config):
    """A communication link between workers."""

    latency_s: float = Field(ge=0)
    """Seconds of an empty exchange between two workers."""
    overhead_s: float = Field(ge=0)
    """CPU seconds of the sender per message; partners are served one after the other."""
    bytes_per_s: float = Field(gt=0)
    """Bytes per second in each direction; for a network, of the whole node."""
    cpu_s_per_byte: float = Field(0.0, ge=0)
    """CPU seconds per byte, sender and receiver together."""


class Rates(Config):
    """Seconds of a part of a step: fixed, and per event, distinct node and message."""

    step_s: float = Field(0.0, ge=0)
    """Fixed seconds per step."""
    event_s: float = Field(0.0, ge=0)
    """Seconds per event of the worker."""
    node_s: float = Field(0.0, ge=0)
    """Seconds per distinct node of the worker's events."""
    message_s: float = Field(0.0, ge=0)
    """Seconds per pending message of these nodes, if a mailbox has several slots."""

    def seconds(self, events: float, nodes: float, messages: float = 0.0) -> float:
        """Return the seconds of a step with these events, distinct nodes and messages."""
        each = self.event_s * events + self.node_s * nodes + self.message_s * messages
        return self.step_s + each


class Machine(Config):
    """A kind of node, and the network between nodes."""

    name: str
    """Name of the machine in a plan."""
    origin: str
    """Source of the rates, shown with every plan."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of the workers; on a GPU, they also copy the stream's columns to it."""
    workers_per_node: int = Field(ge=1)
    """Number of workers per node: one for each core or GPU."""
    worker_memory_bytes: float = Field(gt=0)
    """Memory available to a worker: its GPU's, or its share of the node's."""
    node_memory_bytes: float = Field(gt=0)
    """Host memory of a node."""
    loopback: Link
    """Link between workers of a node."""
    network: Link
    """Link between nodes."""
    compute: Rates
    """Rates of sampling, forward, backward and optimizer."""
    update: Rates
    """Rates of the memory update (part of `compute`), repeated by several steps per batch."""
    local_store: Rates
    """Rates of pull and push if one worker keeps the memory."""
    sharded_store: Rates
    """Rates of a worker's pull and push in a sharded memory, without the time of the link."""
    jitter: float = Field(0.0, ge=0)
    """Standard deviation of a worker's step time, relative to its mean."""
    calibrated_for: dict[str, str] = Field(default_factory=dict)
    """Settings of the model that the rates were measured with."""

    def num_nodes(self, workers: int) -> int:
        """Return the number of nodes for a number of workers."""
        return -(-workers // self.workers_per_node)


def nearest_machine(sizes: Mapping[str, str]) -> Machine:
    """Return the bundled machine that was calibrated with the most similar model.

    Args:
        sizes: result of `model_sizes` for the model.
    """
    machines = [load_machine(name) for name in sorted(shipped_machines())]
    return min(machines, key=lambda machine: len(differing(machine, sizes)))


def differing(machine: Machine, sizes: Mapping[str, str]) -> list[str]:
    """Return the model settings that differ from those of the machine's calibration, as text."""
    return [
        f"{name} {machine.calibrated_for[name]} (now {value})"
        for name, value in sizes.items()
        if machine.calibrated_for.get(name, value) != value
    ]


def load_machine(name: str) -> Machine:
    """Load a machine from a YAML file, or a bundled one by name.

    Raises:
        ConfigError: the machine does not exist or is invalid.
    """
    path = Path(name)
    if not path.suffix and not path.exists():
        known = shipped_machines()
        if name not in known:
            raise ConfigError(
                f"--machine must be a YAML file or one of {', '.join(sorted(known))}, got {name!r}"
            )
        path = known[name]
    return validated(Machine, read_source(path), str(path))


def shipped_machines() -> dict[str, Path]:
    """Return the files of the bundled machines, by name."""
    folder = Path(str(resources.files("pres_dist.planner"))) / "machines"
    return {path.stem: path for path in folder.glob("*.yaml")}


def model_sizes(dump: dict[str, dict[str, object]]) -> dict[str, str]:
    """Return the settings of a run that determine the cost of an event, by name.

    Args:
        dump: `RunConfig.model_dump()`.
    """
    wanted = {
        "memory": ("dim", "mailbox_slots"),
        "model": (
            "kind",
            "message",
            "aggregator",
            "embedding",
            "embedding_dim",
            "num_layers",
            "num_heads",
            "time_dim",
            "decoder",
        ),
        "pres": ("prediction", "predictor", "corrects", "components"),
        "sampling": ("num_neighbors", "num_negatives"),
        "training": ("optimizer",),
    }
    return {
        f"{section}.{name}": str(dump[section][name])
        for section, names in wanted.items()
        for name in names
    }


def fit_rates(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Fit non-negative rates that minimize the squared relative errors of the predicted seconds.

    Every subset of nonzero rates is tried; there are few.

    Args:
        rows: [n, c] quantities of each measurement.
        seconds: [n] measured seconds, all above 0.

    Returns:
        [c] rates >= 0.
    """
    target = np.asarray(seconds, dtype=float)
    scaled = np.asarray(rows, dtype=float) / target[:, None]
    num = scaled.shape[1]
    best, best_error = np.zeros(num), np.inf
    for size in range(1, num + 1):
        for chosen in combinations(range(num), size):
            found, *_ = np.linalg.lstsq(scaled[:, chosen], np.ones(len(target)), rcond=None)
            error = float(((scaled[:, chosen] @ found - 1) ** 2).sum())
            if (found >= 0).all() and error < best_error:
                best, best_error = np.zeros(num), error
                best[list(chosen)] = found
    rates: list[float] = best.tolist()
    return rates
