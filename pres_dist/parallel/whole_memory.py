"""Memory as a checkpoint holds it: whole, whoever kept which part of it.

A checkpoint has the state of a `LocalStore` of all nodes, so that a run can go on
with any number of workers; with several memory replicas, one such state for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from pres_dist.errors import CheckpointError
from pres_dist.memory.sharded import ShardedStore, whole_state
from pres_dist.memory.state import MemoryStore
from pres_dist.parallel.config import Handover
from pres_dist.parallel.world import World

_KINDS = ("rows", "statistics")


def save_memory(store: MemoryStore, world: World) -> dict[str, Any]:
    """The state of all nodes, on the leader; nothing on the other workers.

    Returns:
        `store`, the memory at the end of the training part, that is of the last replica;
        `earlier`, the states of the replicas before it.
    """
    states = world.gather_at_leader(store.state_dict())
    if not world.leads:
        return {}
    each = world.grid.memory_workers
    if isinstance(store, ShardedStore):
        states = [whole_state(states[first : first + each]) for first in range(0, world.size, each)]
    else:
        states = states[::each]  # the first worker of a replica has all of its memory
    return {"store": states[-1], "earlier": states[:-1]}


def load_memory(store: MemoryStore, saved: Mapping[str, Any], world: World) -> None:
    """Take what this worker keeps out of what `save_memory` gave.

    Raises:
        CheckpointError: it has another number of replicas.
    """
    whole = saved["store"]
    if not world.grid.in_last_replica:
        earlier = saved["earlier"]
        if len(earlier) != world.grid.replicas - 1:
            raise CheckpointError(
                f"the checkpoint must hold {world.grid.replicas} memory replicas, "
                f"got {len(earlier) + 1}"
            )
        whole = earlier[world.grid.replica]
    if not isinstance(store, ShardedStore):
        store.load_state_dict(dict(whole))
        return
    own = store.state_dict()["nodes"]
    store.load_shard(
        {
            part: {name: table[own.to(table.device)] for name, table in tables.items()}
            for part, tables in whole.items()
        }
    )


def begin_epoch(store: MemoryStore, world: World, handover: Handover) -> None:
    """The memory that this worker's segment starts from.

    The first segment starts from nothing. A `warm` later one takes what the one before it
    ended with in the epoch before, which has seen only events before its own: nothing at
    first, then one segment further back with each epoch.
    """
    if world.grid.replicas == 1 or handover == "cold":
        store.reset()
        return
    received = _shift(_tables(store.state_dict()), world)
    if received is None:
        store.reset()
    else:
        store.load_state_dict(_with_tables(store.state_dict(), received))


def _shift(tables: list[Tensor], world: World) -> list[Tensor] | None:
    """Tables of the worker in the same place of the replica before; None in the first."""
    each, grid = world.grid.memory_workers, world.grid
    received = None if grid.replica == 0 else [table.new_empty(table.shape) for table in tables]
    under_way = []
    if not grid.in_last_replica:
        under_way = [
            dist.isend(table, group_dst=grid.rank + each, group=world.group) for table in tables
        ]
    for table in received or []:
        dist.recv(table, group_src=grid.rank - each, group=world.group)
    for sent in under_way:
        if sent is not None:
            sent.wait()
    return received


def _tables(state: Mapping[str, Any]) -> list[Tensor]:
    """The tensors of a store's state that hold memory, in a fixed order; there may be none."""
    part = state.get("shard", state)
    return [part[kind][name] for kind in _KINDS if kind in part for name in sorted(part[kind])]


def _with_tables(state: dict[str, Any], tables: list[Tensor]) -> dict[str, Any]:
    """The state of a store with other tables in it."""
    part, left = state.get("shard", state), iter(tables)
    new = {
        kind: {name: next(left) for name in sorted(part[kind])} for kind in _KINDS if kind in part
    }
    return {**state, "shard": new} if "shard" in state else new
