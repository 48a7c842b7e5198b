"""Placement of nodes: the worker that stores each node, and its row there.

Shapes: U nodes of a request, S rows of a shard.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """Round-robin placement: node n is row n // W of worker n % W.

    It balances the shards exactly, where a hash does so only approximately, and needs no
    table. Ids number nodes by first appearance, or users before items, and neither order
    correlates with the remainder. A partition that keeps nodes together that often meet would
    gain nothing: workers compute time slices, and a slice reads nodes of all parts.

    Attributes:
        num_nodes: number of nodes of the stream.
        world: number of workers, or of memory shards, W.
    """

    num_nodes: int
    world: int

    def owner(self, nodes_U: Tensor) -> Tensor:
        """Return the rank of the worker that stores each node."""
        return nodes_U % self.world

    def row(self, nodes_U: Tensor) -> Tensor:
        """Return each node's row in the shard of its owner."""
        return nodes_U // self.world

    def nodes_of(self, rank: int) -> Tensor:
        """Return the ids [S] of the nodes in a shard, in row order."""
        return torch.arange(rank, max(self.num_nodes, rank), self.world)
