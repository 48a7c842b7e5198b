"""The stores of all workers of a gloo world, as one, and how each is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pres_dist.memory.local import LocalStore
from pres_dist.memory.placement import Placement
from pres_dist.memory.saved import Shard, rows_of
from pres_dist.memory.sharded import ShardedStore
from pres_dist.memory.state import (
    NodeState,
    Pulled,
    Tables,
)
from tests.support.gloo_world import GlooWorld, Worker
from tests.support.store_rows import FIELDS, Layout, assert_same_rows


class TablePlacement(Placement):
    """Any owner for each node, so that shards may be of any sizes; rows are sorted by id."""

    def __init__(self, owner_N: Tensor, world: int) -> None:
        super().__init__(len(owner_N), world)
        object.__setattr__(self, "_owner_N", owner_N)

    def owner(self, nodes_U: Tensor) -> Tensor:
        owner_N: Tensor = vars(self)["_owner_N"]
        return owner_N.index_select(0, nodes_U)

    def row(self, nodes_U: Tensor) -> Tensor:
        row_N = torch.empty(self.num_nodes, dtype=torch.int64)
        for rank in range(self.world):
            nodes_S = self.nodes_of(rank)
            row_N[nodes_S] = torch.arange(len(nodes_S))
        return row_N.index_select(0, nodes_U)

    def nodes_of(self, rank: int) -> Tensor:
        return (vars(self)["_owner_N"] == rank).nonzero().flatten()


def put_together(shards: Sequence[Shard]) -> Tables:
    """Assemble the state of a `LocalStore` of all nodes from all shards."""
    num_nodes = sum(len(shard.nodes_S) for shard in shards)
    return rows_of(torch.arange(num_nodes), shards, num_nodes)


def make_store(worker: Worker, layout: Layout, placement: Placement | None = None) -> ShardedStore:
    placement = placement or Placement(layout.num_nodes, worker.world)
    return ShardedStore(shard_of(placement, worker.rank, layout), placement, worker.group)


def shard_of(placement: Placement, rank: int, layout: Layout) -> LocalStore:
    return make_local(replace(layout, num_nodes=len(placement.nodes_of(rank))))


def make_local(layout: Layout) -> LocalStore:
    return LocalStore(
        layout.num_nodes,
        layout.dim,
        layout.num_slots,
        layout.statistics(),
        rolling=layout.rolling,
    )


class StoreOfAll:
    """The stores of all workers of a world, seen as one from outside.

    Everybody pulls everything asked for, each in an order of its own, and must get
    the same. Of a push each worker pushes a part.
    """

    def __init__(self, gloo: GlooWorld, world: int, layout: Layout, key: int) -> None:
        self.num_nodes, self.dim, self.num_slots = layout.num_nodes, layout.dim, layout.num_slots
        self.rolling = layout.rolling
        self._gloo, self._world, self._key = gloo, world, key
        gloo.run(world, keep_store, key, layout)

    def _call(self, function: Any, *args: Any) -> list[Any]:
        return self._gloo.run(self._world, function, self._key, *args)

    @property
    def version(self) -> int:
        first, *others = self._call(version)
        assert all(other == first for other in others)
        return int(first)

    def pull(
        self,
        nodes_U: Tensor,
        writes_U: Tensor | None = None,
        observes_U: Tensor | None = None,
    ) -> Pulled:
        first, *others = self._call(pull_rotated, nodes_U, writes_U, observes_U)
        for other in others:
            assert_same_rows(first.state, other.state)
        pulled: Pulled = first
        return pulled

    def push(self, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None = None) -> None:
        self._call(push_share, nodes_U, state, learn, seen)

    def deliver(self, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor) -> None:
        self._call(deliver_share, nodes_X, events_X, memory_XD)

    def observe(self, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor) -> None:
        self._call(observe_share, nodes_U, memory_UD, last_update_U)

    def reset(self) -> None:
        self._call(reset)

    def state_dict(self) -> dict[str, Any]:
        return {"shards": self._call(save)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._call(load, state["shards"])


def keep_store(worker: Worker, key: int, layout: Layout) -> None:
    worker.kept[key] = make_store(worker, layout)


def version(worker: Worker, key: int) -> int:
    number: int = worker.kept[key].version
    return number


def pull_rotated(
    worker: Worker,
    key: int,
    nodes_U: Tensor,
    writes_U: Tensor | None,
    observes_U: Tensor | None,
) -> Pulled:
    """Pull the rows that worker 0 asked for; the states of all others in its order.

    Of what is announced, each announces the share that it will push.
    """
    marks = {"writes_U": writes_U, "observes_U": observes_U}
    shares = {name: share_of(mask, worker) for name, mask in marks.items() if mask is not None}
    shift = 0 if shares else worker.rank
    pulled: Pulled = worker.kept[key].pull(nodes_U.roll(shift), **shares)
    rows = {name: getattr(pulled.state, name).roll(-shift, 0) for name in FIELDS}
    return replace(pulled, state=NodeState(**rows))


def share_of(mask_U: Tensor, worker: Worker) -> Tensor:
    """Every W-th of the marked rows, as `push_share` takes them."""
    return mask_U & ((mask_U.cumsum(0) - 1) % worker.world == worker.rank)


def push_share(
    worker: Worker, key: int, nodes_U: Tensor, state: NodeState, learn: bool, seen: int | None
) -> None:
    share = slice(worker.rank, None, worker.world)
    part = NodeState(**{name: getattr(state, name)[share] for name in FIELDS})
    worker.kept[key].push(nodes_U[share], part, learn, seen)


def deliver_share(
    worker: Worker, key: int, nodes_X: Tensor, events_X: Tensor, memory_XD: Tensor
) -> None:
    share = slice(worker.rank, None, worker.world)
    worker.kept[key].deliver(nodes_X[share], events_X[share], memory_XD[share])


def observe_share(
    worker: Worker, key: int, nodes_U: Tensor, memory_UD: Tensor, last_update_U: Tensor
) -> None:
    share = slice(worker.rank, None, worker.world)
    worker.kept[key].observe(nodes_U[share], memory_UD[share], last_update_U[share])


def reset(worker: Worker, key: int) -> None:
    worker.kept[key].reset()


def save(worker: Worker, key: int) -> dict[str, Any]:
    state: dict[str, Any] = worker.kept[key].state_dict()
    return state


def load(worker: Worker, key: int, shards: Sequence[dict[str, Any]]) -> None:
    worker.kept[key].load_state_dict(shards[worker.rank])
