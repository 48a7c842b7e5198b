"""Each node has one owner and one row there."""

from __future__ import annotations

import pytest
import torch

from pres_dist.memory.placement import Placement


@pytest.mark.parametrize("num_nodes", [0, 1, 2, 3, 10, 11])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_node_has_one_row(num_nodes: int, world: int) -> None:
    placement = Placement(num_nodes, world)
    shards = [placement.nodes_of(rank) for rank in range(world)]
    assert sorted(torch.cat(shards).tolist()) == list(range(num_nodes))
    for rank, nodes_S in enumerate(shards):
        assert placement.owner(nodes_S).tolist() == [rank] * len(nodes_S)
        assert placement.row(nodes_S).tolist() == list(range(len(nodes_S)))
