"""Memory as a checkpoint holds it: whole, whoever kept which part of it.

Each worker saves the rows that it keeps, and takes its own out of the rows of all, so that
a run can go on with any number of workers; with several memory replicas, of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch.distributed as dist
from torch import Tensor

from pres_dist.config.parallel import Handover
from pres_dist.errors import CheckpointError
from pres_dist.memory.saved import SavedMemory, Shard, Tables, rows_of
from pres_dist.memory.state import MemoryStore
from pres_dist.parallel.world import World


def own_memory(store: MemoryStore, world: World) -> dict[str, Tensor]:
    """What this worker adds to a checkpoint: copies of its rows, under names of their own."""
    nodes_S = store.kept_nodes()
    if not len(nodes_S):  # a model without memory, or more workers than nodes
        return {}
    replica, number = divmod(world.rank, world.grid.memory_workers)
    return Shard(nodes_S, store.state_dict()).named(replica, number)


def load_memory(store: MemoryStore, saved: SavedMemory, world: World) -> None:
    """Take what this worker keeps out of a checkpoint.

    Raises:
        CheckpointError: it has another number of replicas, or tables of other shapes.
    """
    shards = _shards(saved, world) if saved.num_replicas else ()  # a model without memory
    store.load_state_dict(rows_of(store.kept_nodes(), shards, store.num_nodes))


def _shards(saved: SavedMemory, world: World) -> Iterator[Shard]:
    """The shards of this worker's replica, read by the leader where not all see the files.

    All workers must take all of them: whoever does not see the files hears of them.
    """
    grid, last = world.grid, saved.num_replicas - 1
    if not grid.in_last_replica and grid.replicas != saved.num_replicas:
        raise CheckpointError(
            f"the checkpoint must hold {grid.replicas} memory replicas, got {saved.num_replicas}"
        )
    if all(world.gather(saved.folder.is_dir())):
        yield from saved.shards(last if grid.in_last_replica else grid.replica)
        return
    for replica in range(saved.num_replicas):
        for number in saved.numbers(replica):
            shard = world.run_on_rank0(partial(saved.shard, replica, number))
            if replica == (last if grid.in_last_replica else grid.replica):
                yield shard


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


def _tables(state: Tables) -> list[Tensor]:
    """The tables of a store's state in a fixed order; there may be none."""
    return [tables[name] for _, tables in sorted(state.items()) for name in sorted(tables)]


def _with_tables(state: Tables, received: list[Tensor]) -> Tables:
    """The state of a store with other tables in it."""
    left = iter(received)
    return {
        part: {name: next(left) for name in sorted(tables)}
        for part, tables in sorted(state.items())
    }
