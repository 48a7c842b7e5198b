"""Memory store of a run: local, sharded over the workers, or in Ray actors."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.events.capacity import check_capacity
from pres_dist.events.stream import EventStream
from pres_dist.memory.null import NullStore
from pres_dist.memory.placement import Placement
from pres_dist.memory.shard_layout import ShardLayout
from pres_dist.memory.sharded import ShardedStore
from pres_dist.memory.state import MemoryStore
from pres_dist.memory.updated_rows import UpdatedRows
from pres_dist.parallel.grid import Grid
from pres_dist.parallel.world import World
from pres_dist.pres.clock import TransitionClock
from pres_dist.step.owner import OwnerSide
from pres_dist.step.pipeline import BatchPipeline

Close = Callable[[], None]


def open_store(
    config: RunConfig, stream: EventStream, layout: ShardLayout, world: World
) -> tuple[MemoryStore, Close]:
    """Open the store that this worker's replica shares; return it with its close function.

    Args:
        config: settings of the run.
        stream: its nodes get a row each.
        layout: sizes of a row, and device of the rows.
        world: all workers; each must call this.

    Raises:
        ConfigError: several workers share a local store; Ray does not run here, or
            has no room for the shards.
        DataError: the rows of this worker exceed the memory of its machine.
        StoreError: the shards do not start.
    """
    if not config.model.has_memory:
        return NullStore(stream.num_nodes), _nothing
    kind, sharers = config.memory.store, world.own_replica()
    if kind == "local" and sharers.size > 1:
        raise ConfigError(
            f"memory.store must be auto, sharded or server where {sharers.size} workers share a "
            "memory, got local"
        )
    if kind == "server":
        from pres_dist.parallel.ray_shards import start_shards

        placement = Placement(stream.num_nodes, config.memory.shards or sharers.size)
        return start_shards(sharers, placement, layout, answer_s=config.parallel.timeout_s)
    if torch.device(layout.device).type == "cpu":
        share = -(-stream.num_nodes // sharers.size)
        check_capacity(share, f"stream {stream.name}", layout.num_bytes(1))
    if sharers.size == 1:
        return layout.make(stream.num_nodes, spare=True), _nothing
    placement = placement_of(stream.num_nodes, sharers.grid)
    shard = layout.make(len(placement.nodes_of(sharers.rank)))
    return ShardedStore(shard, placement, sharers.group), _nothing


def placement_of(num_nodes: int, grid: Grid) -> Placement:
    """Return the placement of nodes on the workers of a memory: as many shards as slices each."""
    return Placement(num_nodes, grid.memory_workers, grid.slices_each)


def owner_side(config: RunConfig, pipeline: BatchPipeline, world: World) -> OwnerSide | None:
    """Return the owners' side of training steps; None if slices update what they read."""
    sharers = world.own_replica()
    several = sharers.grid.slices * sharers.grid.epochs > 1
    chosen = config.memory.update != "reader" and config.against_owner_updates is None
    if not (several and chosen):
        return None
    model, store = pipeline.model, pipeline.store
    updates = [each for each in (model.updater, model.correction) if each is not None]
    rows = UpdatedRows(
        placement_of(store.num_nodes, sharers.grid),
        sharers.rank,
        sharers.group,
        store.traffic if isinstance(store, ShardedStore) else None,
    )
    learns = any(weight.requires_grad for each in updates for weight in each.parameters())
    return OwnerSide(pipeline, rows, learns, config.pres.coherence_weight > 0)


def _nothing() -> None:
    pass


def layout_of(config: RunConfig, time_unit: float, device: torch.device) -> ShardLayout:
    """Return the layout of a row of node state; shards in Ray actors use host memory."""
    components = config.pres.components if config.pres.prediction else 0
    clock = TransitionClock(config.pres.clock, time_unit) if components else None
    home = torch.device("cpu") if config.memory.store == "server" else device
    of_states, rolling = config.pres.predictor == "level", config.model.updater == "attention"
    slots = config.memory.mailbox_slots
    return ShardLayout(config.memory.dim, slots, components, clock, home, of_states, rolling)


def ray_runs_here() -> bool:
    """Return True if this process is part of a Ray cluster; does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def without_servers(config: RunConfig) -> RunConfig:
    """Return the configuration with memory in the workers; checkpoints fit any store."""
    if config.memory.store != "server":
        return config
    return config.model_copy(
        update={"memory": config.memory.model_copy(update={"store": "auto", "shards": 0})}
    )
