"""Memory as a checkpoint holds it: whole, whoever kept which part of it.

A checkpoint has the state of a `LocalStore` of all nodes, so that a run can go on
with any number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pres_dist.memory.sharded import ShardedStore, whole_state
from pres_dist.memory.state import MemoryStore
from pres_dist.parallel.world import World


def save_memory(store: MemoryStore, world: World) -> dict[str, Any]:
    """The state of all nodes, on the leader; nothing on the other workers."""
    if not isinstance(store, ShardedStore):
        return store.state_dict()
    shards = world.gather_at_leader(store.state_dict())
    return whole_state(shards) if world.leads else {}


def load_memory(store: MemoryStore, whole: Mapping[str, Any]) -> None:
    """Take what this worker keeps out of the state of all nodes."""
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
