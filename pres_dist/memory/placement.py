"""Placement of nodes: the worker that stores each node, and its row there.

Shapes: N nodes of the stream, W workers, U nodes of a request, S rows of a shard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.memory import PlacementKind
from pres_dist.events.stream import EventStream
from pres_dist.memory.partition import streaming_partition


class Placement(Protocol):
    """Maps each node to its owner and to its row there. Identical on all workers."""

    @property
    def num_nodes(self) -> int:
        """Number of nodes of the stream, N."""

    @property
    def world(self) -> int:
        """Number of workers, W."""

    def owner(self, nodes_U: Tensor) -> Tensor:
        """Return the rank of the worker that stores each node."""

    def row(self, nodes_U: Tensor) -> Tensor:
        """Return each node's row in the shard of its owner."""

    def nodes_of(self, rank: int) -> Tensor:
        """Return the ids [S] of the nodes in a shard, in row order."""


@dataclass(frozen=True)
class ModuloPlacement:
    """Round-robin placement: node n is row n // W of worker n % W.

    It balances the shards exactly, where a hash does so only approximately, and needs no
    table. Ids number nodes by first appearance, or users before items, and neither order
    correlates with the remainder.
    """

    num_nodes: int
    world: int

    def owner(self, nodes_U: Tensor) -> Tensor:
        return nodes_U % self.world

    def row(self, nodes_U: Tensor) -> Tensor:
        return nodes_U // self.world

    def nodes_of(self, rank: int) -> Tensor:
        return torch.arange(rank, max(self.num_nodes, rank), self.world)


@dataclass(frozen=True)
class TablePlacement:
    """Arbitrary placement, given by a table of owners. Rows of a shard are sorted by id.

    The table takes eight bytes per node on every worker.

    Args:
        owner_N: rank of the worker that stores each node, in [0, W).
        world: number of workers, W.

    Raises:
        ValueError: an owner is not a rank in [0, W).
    """

    owner_N: Tensor = field(repr=False)
    world: int
    # A node's place: row * W + owner. Cached per device.
    _places: dict[torch.device, Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        strangers = self.owner_N[(self.owner_N < 0) | (self.owner_N >= self.world)]
        if len(strangers):
            raise ValueError(
                f"owners must be ranks of the {self.world} workers, got {int(strangers[0])}"
            )
        place_N = torch.empty(self.num_nodes, dtype=torch.int64)
        for rank in range(self.world):
            nodes_S = self.nodes_of(rank)
            place_N[nodes_S] = rank + self.world * torch.arange(len(nodes_S))
        self._places[place_N.device] = place_N

    @property
    def num_nodes(self) -> int:
        return len(self.owner_N)

    def owner(self, nodes_U: Tensor) -> Tensor:
        return self._place(nodes_U) % self.world

    def row(self, nodes_U: Tensor) -> Tensor:
        return self._place(nodes_U) // self.world

    def nodes_of(self, rank: int) -> Tensor:
        return (self.owner_N.cpu() == rank).nonzero().flatten()

    def _place(self, nodes_U: Tensor) -> Tensor:
        device = nodes_U.device
        if device not in self._places:
            self._places[device] = self._places[torch.device("cpu")].to(device)
        # Not by [], which would accept -1 as the last node.
        return self._places[device].index_select(0, nodes_U)


def make_placement(
    kind: PlacementKind, stream: EventStream, train_end: int, world: int
) -> Placement:
    """Return the placement of a run, a function of the arguments only.

    Args:
        kind: `modulo` places nodes round-robin; `streaming` places nodes together that share
            many training events.
        stream: the events.
        train_end: first event after the training split; only events before it are read.
        world: number of workers.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind == "modulo":
        return ModuloPlacement(stream.num_nodes, world)
    if kind == "streaming":
        src, dst = np.asarray(stream.src[:train_end]), np.asarray(stream.dst[:train_end])
        return TablePlacement(
            torch.from_numpy(streaming_partition(src, dst, stream.num_nodes, world)), world
        )
    raise ValueError(f"memory.placement must be modulo or streaming, got {kind!r}")
