"""Each node has one owner and one row there."""

from __future__ import annotations

import pytest
import torch

from pres_dist.memory.placement import Placement


@pytest.mark.parametrize("num_nodes", [0, 1, 2, 3, 10, 11])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("each", [1, 3])
def test_every_node_has_one_row(num_nodes: int, world: int, each: int) -> None:
    placement = Placement(num_nodes, world, each)
    shards = [placement.nodes_of(rank) for rank in range(world)]
    assert sorted(torch.cat(shards).tolist()) == list(range(num_nodes))
    for rank, nodes_S in enumerate(shards):
        assert placement.owner(nodes_S).tolist() == [rank] * len(nodes_S)
        assert placement.row(nodes_S).tolist() == list(range(len(nodes_S)))


def test_the_nodes_of_a_rank_take_the_memory_of_its_rows() -> None:
    assert Placement(10**13 + 4, 10**12).nodes_of(3).tolist() == [
        3 + 10**12 * row for row in range(11)
    ]


def test_shards_in_the_order_of_ranks_do_not_depend_on_the_number_of_workers() -> None:
    nodes_N = torch.arange(50)
    for world, each in ((1, 6), (2, 3), (3, 2), (6, 1)):
        placement = Placement(50, world, each)
        shard_N = placement.owner(nodes_N) * each + placement.shard(nodes_N)
        assert torch.equal(shard_N, nodes_N % 6)
