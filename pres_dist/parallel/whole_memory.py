"""Node memory in checkpoints, independent of how it was sharded.

Each worker saves the rows that it keeps, and loads its own rows from those of all workers. So
a run can resume with any number of workers. With several memory replicas, each is saved.
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
    """Return this worker's part of a checkpoint: copies of its rows, under unique names."""
    nodes_S = store.kept_nodes()
    if not len(nodes_S):  # a model without memory, or more workers than nodes
        return {}
    replica, number = divmod(world.rank, world.grid.memory_workers)
    return Shard(nodes_S, store.state_dict()).named(replica, number)


def load_memory(store: MemoryStore, saved: SavedMemory, world: World) -> None:
    """Load the rows that this worker keeps from a checkpoint.

    Raises:
        CheckpointError: it has another number of replicas, or tables of other shapes.
    """
    shards = _shards(saved, world) if saved.num_replicas else ()  # a model without memory
    store.load_state_dict(rows_of(store.kept_nodes(), shards, store.num_nodes))


def _shards(saved: SavedMemory, world: World) -> Iterator[Shard]:
    """Yield the shards of this worker's replica; rank 0 reads them if not all see the files.

    All workers must iterate to the end, because rank 0 sends each shard by a collective.
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
    """Set the memory that this worker's segment starts from.

    The first segment starts with empty memory. With `warm`, each later segment starts with the
    memory that the segment before it ended with in the previous epoch. That memory has seen only
    earlier events: none at first, then those of one more segment with each epoch.
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
    """Return the tables of the same worker of the previous replica; None in the first."""
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
    """Return the tables of a store's state in a fixed order; there may be none."""
    return [tables[name] for _, tables in sorted(state.items()) for name in sorted(tables)]


def _with_tables(state: Tables, received: list[Tensor]) -> Tables:
    """Return the state of a store with its tables replaced by those received."""
    left = iter(received)
    return {
        part: {name: next(left) for name in sorted(tables)}
        for part, tables in sorted(state.items())
    }
