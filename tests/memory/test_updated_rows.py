"""Exchange of updated rows: every reader gets its rows, every owner the sums of their gradients."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.memory import all_to_all
from pres_dist.memory.placement import Placement
from pres_dist.memory.updated_rows import UpdatedRows
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.nightly import nightly_except

NUM_NODES, SLICES = 23, 4


def reads_of(number: int) -> Tensor:
    """Nodes that a slice reads, in any order; slice 2 reads none."""
    random = torch.Generator().manual_seed(number)
    return torch.randperm(NUM_NODES, generator=random)[: 0 if number == 2 else 9 + number]


def row_of(nodes: Tensor) -> Tensor:
    return torch.stack([nodes, nodes * nodes], dim=1).float()


def gradient_of(number: int, nodes: Tensor) -> Tensor:
    """Numbers whose sum depends on its order."""
    return ((nodes[:, None] + 1) * torch.tensor([0.1, 1e-7]) * 3.0**number).sin() * 10.0**number


def exchange(
    rank: int, rows: UpdatedRows, group: dist.ProcessGroup | None = None
) -> dict[int, tuple[bool, list[float]]]:
    """Return what a worker gets for its slices, and mark and gradient bits of each node it owns."""
    each = rows.placement.each
    numbers = range(rank * each, (rank + 1) * each)
    slices = [reads_of(number) for number in numbers]
    others = torch.tensor([5, 1, 20])[rank % 2 :]
    wanted, carried = rows.wanted(slices, [nodes % 3 == 0 for nodes in slices], others), None
    if group is not None:  # as with the gradients of the previous step
        blocks = rows.blocks(wanted)
        received = torch.empty_like(blocks)
        dist.all_to_all_single(received, blocks, group=group)
        carried = blocks, received
    read = rows.request(wanted, carried)
    got_D, got = rows.send(read, [row_of(read.nodes_P), read.nodes_P])
    wanted = torch.cat([*slices, others])
    assert torch.equal(got, wanted)
    assert torch.equal(got_D, row_of(wanted))
    owned = rows.placement.owner(read.nodes_P)
    assert (owned == rank).all()
    assert read.nodes_P.unique().numel() == read.nodes_P.numel() == sum(read.shards)
    assert torch.equal(rows.places(read, read.nodes_P), torch.arange(read.nodes_P.numel()))
    gradients = torch.cat([gradient_of(*pair) for pair in zip(numbers, slices, strict=True)])
    (summed,) = rows.send_back(read, [gradients])
    assert read.observed_P is not None
    found = zip(read.nodes_P.tolist(), read.observed_P.tolist(), summed.tolist(), strict=True)
    return {node: (mark, values) for node, mark, values in found}


def exchange_as(worker: Worker) -> dict[int, tuple[bool, list[float]]]:
    placement = Placement(NUM_NODES, worker.world, SLICES // worker.world)
    with mock.patch.object(all_to_all, "_FIRST_CAPACITY", 3):  # too small for the first blocks
        rows = UpdatedRows(placement, worker.rank, worker.group)
    carrying = worker.group if worker.world > 1 else None
    found = [exchange(worker.rank, rows, group) for group in (carrying, carrying, None)]
    assert found[0] == found[1] == found[2]
    assert (rows.traffic.pull.remote_bytes > 0) == (worker.world > 1)
    return found[0]


@pytest.mark.parametrize("world", nightly_except([2], [1, 2, 4]))
def test_gradients_are_summed_in_the_order_of_slices(gloo: GlooWorld, world: int) -> None:
    """The same bits on any number of workers."""
    expected: dict[int, Tensor] = {}
    for number in range(SLICES):
        nodes = reads_of(number)
        for node, gradient in zip(nodes.tolist(), gradient_of(number, nodes), strict=True):
            expected[node] = expected.get(node, torch.zeros(2)) + gradient
    alone = exchange(0, UpdatedRows(Placement(NUM_NODES, 1, SLICES), 0))
    found: dict[int, tuple[bool, list[float]]] = {}
    for part in gloo.run(world, exchange_as):
        found |= part
    assert found == alone
    assert {node: values for node, (_, values) in alone.items() if node in expected} == {
        node: total.tolist() for node, total in expected.items()
    }
    assert all(mark == (node % 3 == 0) for node, (mark, _) in alone.items() if node in expected)
    assert all(values == [0.0, 0.0] for node, (_, values) in alone.items() if node not in expected)
