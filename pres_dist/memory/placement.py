"""Placement of nodes: the worker that stores each node, and its row there.

Shapes: U nodes of a request, S rows of a worker.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """Round-robin placement: node n is in shard n % (W * `each`), of which a worker has `each`.

    It balances the shards exactly, where a hash does so only approximately, and needs no
    table. Ids number nodes by first appearance, or users before items, and neither order
    correlates with the remainder. A partition that keeps nodes together that often meet would
    gain nothing: workers compute time slices, and a slice reads nodes of all parts.

    A worker's shards are consecutive, so the shards in the order of ranks are the same for any
    number of workers that divides their number. The rows of a worker are in the order of ids.

    Attributes:
        num_nodes: number of nodes of the stream.
        world: number of workers, or of memory servers, W.
        each: number of shards of each worker.
    """

    num_nodes: int
    world: int
    each: int = 1

    @property
    def num_shards(self) -> int:
        """Number of shards of all workers."""
        return self.world * self.each

    def owner(self, nodes_U: Tensor) -> Tensor:
        """Return the rank of the worker that stores each node."""
        return nodes_U % self.num_shards // self.each

    def shard(self, nodes_U: Tensor) -> Tensor:
        """Return the number of each node's shard among the shards of its owner."""
        return nodes_U % self.each

    def row(self, nodes_U: Tensor) -> Tensor:
        """Return each node's row at its owner."""
        return nodes_U // self.num_shards * self.each + nodes_U % self.each

    def nodes_of(self, rank: int) -> Tensor:
        """Return the ids [S] of the nodes that a worker stores, in row order."""
        first = torch.arange(0, self.num_nodes, self.num_shards)
        own = torch.arange(rank * self.each, (rank + 1) * self.each)
        nodes_S = (first[:, None] + own).flatten()
        return nodes_S[nodes_S < self.num_nodes]
