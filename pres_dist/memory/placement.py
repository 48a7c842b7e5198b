"""Which worker keeps the row of a node, and where.

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
    """Which worker keeps the row of a node, and where. The same on all workers."""

    @property
    def num_nodes(self) -> int:
        """Nodes of the stream, N."""

    @property
    def world(self) -> int:
        """Workers, W."""

    def owner(self, nodes_U: Tensor) -> Tensor:
        """Rank of the worker that keeps each node."""

    def row(self, nodes_U: Tensor) -> Tensor:
        """Each node's row in the shard of its owner."""

    def nodes_of(self, rank: int) -> Tensor:
        """Ids of the nodes in a shard, in row order [S]."""


@dataclass(frozen=True)
class ModuloPlacement:
    """Deals the nodes out in turn: node n is row n // W of worker n % W.

    As even as a hash, exactly instead of nearly, and without a table: ids number nodes
    in the order of their first appearance, or users before items, and neither order has
    anything to do with a remainder.
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
    """Any placement at all, by a table of owners. Rows of a shard are in order of ids.

    The table holds eight bytes a node on every worker.

    Args:
        owner_N: rank of the worker that keeps each node, in [0, W).
        world: workers, W.

    Raises:
        ValueError: an owner is none of the workers.
    """

    owner_N: Tensor = field(repr=False)
    world: int
    # A node's place: row * W + owner. One table for each device that has asked.
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
        # Not by [], which would take -1 for the last node.
        return self._places[device].index_select(0, nodes_U)


def make_placement(
    kind: PlacementKind, stream: EventStream, train_end: int, world: int
) -> Placement:
    """The placement of a run: a function of its arguments alone, the same on all workers.

    Args:
        kind: `modulo` deals the nodes out in turn; `streaming` keeps nodes together that
            often meet in training events.
        stream: the events.
        train_end: first event after the training split; no later one is looked at.
        world: workers.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "modulo":
        return ModuloPlacement(stream.num_nodes, world)
    if kind == "streaming":
        src, dst = np.asarray(stream.src[:train_end]), np.asarray(stream.dst[:train_end])
        return TablePlacement(
            torch.from_numpy(streaming_partition(src, dst, stream.num_nodes, world)), world
        )
    raise ValueError(f"memory.placement must be modulo or streaming, got {kind!r}")
