"""What a machine computes and moves in a second, as measured or as given.

Links follow the alpha-beta model with alpha in two parts, as in LogGP (Alexandrov et al.,
SPAA 1995): a latency once an exchange, and an overhead for each message, which adds up over
the partners of an exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.config.load import validated
from pres_dist.config.source import read_source
from pres_dist.errors import ConfigError


class Link(Config):
    """A way between workers."""

    latency_s: float = Field(ge=0)
    """Seconds that an exchange of nothing between two takes."""
    overhead_s: float = Field(ge=0)
    """CPU seconds that a message takes of its sender; partners are served one after the other."""
    bytes_per_s: float = Field(gt=0)
    """Bytes in a second, each way; of the whole node where it is a network's."""
    cpu_s_per_byte: float = Field(0.0, ge=0)
    """CPU seconds for a byte sent and received, both ends together."""


class Rates(Config):
    """Seconds of a part of a step: fixed, for each event, distinct node and message."""

    step_s: float = Field(0.0, ge=0)
    """For the part itself, however small."""
    event_s: float = Field(0.0, ge=0)
    """For each event of the worker."""
    node_s: float = Field(0.0, ge=0)
    """For each distinct node that the worker's events touch."""
    message_s: float = Field(0.0, ge=0)
    """For each message that waits for one of these nodes, where a mailbox has several slots."""

    def seconds(self, events: float, nodes: float, messages: float = 0.0) -> float:
        each = self.event_s * events + self.node_s * nodes + self.message_s * messages
        return self.step_s + each


class Machine(Config):
    """A kind of node, and the network between nodes."""

    name: str
    """What the plan calls it."""
    origin: str
    """Where the figures come from; shown with every plan."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where workers compute; on a GPU they copy the stream's columns there."""
    workers_per_node: int = Field(ge=1)
    """Cores, or GPUs, that take a worker each."""
    worker_memory_bytes: float = Field(gt=0)
    """Memory that a worker may fill: of its GPU, or its share of the node's."""
    node_memory_bytes: float = Field(gt=0)
    """Host memory of a node."""
    loopback: Link
    """Between workers of a node."""
    network: Link
    """Between nodes."""
    compute: Rates
    """Sampling, forward, backward and optimizer."""
    update: Rates
    """The memory update among them, which several optimizer steps over a batch repeat."""
    local_store: Rates
    """Pull and push where one worker keeps the memory."""
    sharded_store: Rates
    """Pull and push of a worker among several, without what the link takes."""
    jitter: float = Field(0.0, ge=0)
    """Standard deviation of a worker's time over its mean, from step to step."""
    calibrated_for: dict[str, str] = Field(default_factory=dict)
    """Settings of the model that the rates were measured with."""

    def num_nodes(self, workers: int) -> int:
        """Nodes that so many workers take."""
        return -(-workers // self.workers_per_node)


def nearest_machine(sizes: Mapping[str, str]) -> Machine:
    """The machine that comes along whose rates were measured with the most similar model.

    Args:
        sizes: what `model_sizes` gives for the model.
    """
    machines = [load_machine(name) for name in sorted(shipped_machines())]
    return min(machines, key=lambda machine: len(differing(machine, sizes)))


def differing(machine: Machine, sizes: Mapping[str, str]) -> list[str]:
    """Settings of the model that the machine's rates were measured with others of, in words."""
    return [
        f"{name} {machine.calibrated_for[name]} (now {value})"
        for name, value in sizes.items()
        if machine.calibrated_for.get(name, value) != value
    ]


def load_machine(name: str) -> Machine:
    """A machine from a YAML file, or one that comes along.

    Raises:
        ConfigError: there is none, or it is wrong.
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
    """Files of the machines that come along, by name."""
    folder = Path(str(resources.files("pres_dist.planner"))) / "machines"
    return {path.stem: path for path in folder.glob("*.yaml")}


def model_sizes(dump: dict[str, dict[str, object]]) -> dict[str, str]:
    """The settings of a run that decide what an event costs, by name.

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
        ),
        "pres": ("prediction", "predictor", "corrects", "components", "gate", "pending"),
        "sampling": ("num_neighbors", "num_negatives"),
    }
    return {
        f"{section}.{name}": str(dump[section][name])
        for section, names in wanted.items()
        for name in names
    }
