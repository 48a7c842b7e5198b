"""Rows of the server store move between host and device in one copy, however many columns."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from pres_dist.memory import packing
from pres_dist.memory.placement import Placement
from pres_dist.memory.server import ServerStore
from pres_dist.memory.shard_group import join_group
from pres_dist.memory.state import NodeState
from tests.gpu.counting import counted
from tests.support.shard_hosts import TIMEOUT_S, Shards, shard_layout
from tests.support.store_rows import Layout, assert_same_rows, ids, random_state

LAYOUT = Layout(num_nodes=7, dim=3, num_slots=2, num_components=2, clock="log")


def moved(state: NodeState, device: torch.device | str) -> NodeState:
    return NodeState(**{name: column.to(device) for name, column in vars(state).items()})


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_push_and_a_pull(num_shards: int, sim: torch.device) -> None:
    placement, reference = Placement(7, num_shards), shard_layout(LAYOUT).make(7)
    shards = Shards(1, LAYOUT, placement)
    group = join_group(shards.rendezvous, 0, 1 + num_shards, TIMEOUT_S)
    incarnation = shards.rendezvous.incarnation
    store = ServerStore(group, placement, shard_layout(LAYOUT), incarnation, TIMEOUT_S)
    try:
        for seed, nodes in enumerate((ids(1, 4, 6), ids(0, 4, 5, 6), ids())):
            state = random_state(LAYOUT, len(nodes), seed, [100 + seed] * len(nodes))
            own, on_device = nodes.to(sim), moved(state, sim)
            reference.push(nodes, state, learn=True)
            with counted() as pushed:
                store.push(own, on_device, learn=True)
            assert pushed.waits.total() == 1
            asked = ids(6, 0, 4)
            expected, there = reference.pull(asked), asked.to(sim)
            with counted() as pulled:
                found = store.pull(there)
            assert pulled.waits.total() == 2  # nodes to the host, rows back
            assert found.state.memory_UD.device == sim
            assert_same_rows(moved(found.state, "cpu"), expected.state)
            known = found.transitions
            assert known is not None
            assert expected.transitions is not None
            assert torch.equal(known.rate_UD.cpu(), expected.transitions.rate_UD)
    finally:
        store.leave()
        shards.join()


def test_memory_is_pinned_for_cuda_alone() -> None:
    with mock.patch.object(packing.torch, "empty") as empty:
        for name in ("cpu", "meta", "cuda:1"):
            packing.pinned(8, torch.device(name))
    assert [call.kwargs["pin_memory"] for call in empty.call_args_list] == [False, False, True]


def test_columns_of_the_cpu_are_not_copied() -> None:
    columns = [torch.rand(3, 2), torch.arange(3)]
    for same in (packing.to_host(columns), packing.to_device(columns, torch.device("cpu"))):
        assert [one is other for one, other in zip(same, columns, strict=True)] == [True, True]
