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
from pres_dist.memory.saved import SavedMemory, Shard, rows_of
from pres_dist.memory.state import MemoryStore, Tables
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
    grid = world.grid
    if not grid.in_last_replica and grid.replicas != saved.num_replicas:
        raise CheckpointError(
            f"the checkpoint must hold {grid.replicas} memory replicas, got {saved.num_replicas}"
        )
    own = saved.num_replicas - 1 if grid.in_last_replica else grid.replica
    if all(world.gather(saved.folder.is_dir())):
        yield from saved.shards(own)
        return
    for replica in range(saved.num_replicas):
        for number in saved.numbers(replica):
            shard = world.run_on_rank0(partial(saved.shard, replica, number))
            if replica == own:
                yield shard


def begin_epoch(store: MemoryStore, world: World, handover: Handover) -> None:
    """Set the memory that this worker's segment starts from.

    The first segment starts with empty memory. With `warm`, each later segment starts with the
    memory that the segment before it ended with in the previous epoch. That memory has seen only
    earlier events: none at first, then those of one more segment with each epoch.
    """
    grid = world.grid
    if grid.replicas == 1 or handover == "cold":
        store.reset()
        return
    state: Tables = store.state_dict()
    tables = [(part, name) for part in sorted(state) for name in sorted(state[part])]
    under_way = []
    # Sends are asynchronous: in a chain of blocking sends and receives, replicas would wait
    # for each other one after the other.
    if not grid.in_last_replica:
        next_rank = grid.rank + grid.memory_workers
        under_way = [
            dist.isend(state[part][name], group_dst=next_rank, group=world.group)
            for part, name in tables
        ]
    received: Tables = {part: {} for part in state}
    for part, name in tables if grid.replica else ():
        table = state[part][name].new_empty(state[part][name].shape)
        dist.recv(table, group_src=grid.rank - grid.memory_workers, group=world.group)
        received[part][name] = table
    for sent in under_way:
        if sent is not None:
            sent.wait()
    # Only now: the state's tables may be those of the store, which loading overwrites.
    if grid.replica:
        store.load_state_dict(received)
    else:
        store.reset()
