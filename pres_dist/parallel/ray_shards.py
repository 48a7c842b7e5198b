"""Memory shards as Ray actors with host memory of their own.

A dead shard is not restarted, because a new actor would have lost its content. Its workers
raise `StoreError`. Restarting the run starts new shards, which load the checkpoint. The
actors end with the worker that started them.

Ray is imported when shards are started.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from pres_dist.errors import ConfigError, MissingPackageError
from pres_dist.memory.placement import Placement
from pres_dist.memory.server import ServerStore
from pres_dist.memory.shard_group import LOOPBACK, Rendezvous, join_group, open_rendezvous
from pres_dist.memory.shard_layout import ShardLayout
from pres_dist.memory.shard_service import host_shard
from pres_dist.parallel.world import World

_STRATEGY = "SPREAD"
"""Puts shards on different nodes of the cluster if possible."""
_LEAVE_S = 10.0
"""Seconds that a shard has to end by itself once all workers have left."""


class ShardActor:
    """Ray actor that hosts one shard."""

    def host(self, *args: Any) -> None:
        """Serve the shard, with the arguments of `host_shard`, until all workers have left."""
        torch.set_num_threads(1)
        host_shard(*args)


def start_shards(
    world: World,
    placement: Placement,
    layout: ShardLayout,
    timeout_s: float = 300.0,
    answer_s: float | None = None,
) -> tuple[ServerStore, Callable[[], None]]:
    """Start the shards of a store, `placement.world` of them; called by all workers.

    Ray must be initialized on rank 0: it is in a Ray actor, and elsewhere after `ray.init`.

    Args:
        world: the workers that share the memory: `World.own_replica`.
        placement: mapping of nodes to shards.
        layout: sizes of the rows.
        timeout_s: seconds to wait for Ray to place the shards, and for all processes to join.
        answer_s: seconds to wait for every later answer; None uses `timeout_s`.

    Returns:
        this worker's side of the store, and a function that ends the shards: all workers call
        it after the run, also after a failure.

    Raises:
        ConfigError: on all workers, if Ray does not run here or has no room for the shards.
        StoreError: on all workers, if the shards did not join.
    """
    actors, answer_s = _ShardActors(), timeout_s if answer_s is None else answer_s
    try:
        rendezvous = world.run_on_rank0(
            lambda: actors.start(world.size, placement, layout, timeout_s, answer_s)
        )
        group = join_group(rendezvous, world.rank, world.size + placement.world, timeout_s)
    except BaseException:
        actors.stop(at_once=True)
        raise
    store = ServerStore(group, placement, layout, rendezvous.incarnation, answer_s)
    return store, partial(_close, store, actors)


def _close(store: ServerStore, actors: _ShardActors) -> None:
    store.leave()
    actors.stop()


@dataclass
class _ShardActors:
    """The shard actors, on rank 0; empty on the other workers."""

    actors: list[Any] = field(default_factory=list)
    ends: list[Any] = field(default_factory=list)
    group: Any = None
    meeting_point: Any = None
    """Store of the rendezvous, which must live until all have joined."""

    def start(
        self,
        num_workers: int,
        placement: Placement,
        layout: ShardLayout,
        timeout_s: float,
        answer_s: float,
    ) -> Rendezvous:
        """Place and start the actors, which then wait for the workers."""
        try:
            import ray
            from ray.util import placement_group
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
        except ImportError:
            raise MissingPackageError("memory.store: server", "Ray", "ray") from None
        if not ray.is_initialized():
            raise ConfigError(
                "memory.store: server keeps shards in Ray actors, and Ray does not run here; "
                "start the run by pres-dist ray, or take memory.store: sharded"
            )
        num_shards = placement.world
        rows = [len(placement.nodes_of(shard)) for shard in range(num_shards)]
        # Never empty, which Ray refuses. No CPUs: a shard works while its workers wait.
        bundles = [{"memory": float(max(layout.num_bytes(num), 1 << 20))} for num in rows]
        self.group = placement_group(bundles, strategy=_STRATEGY)
        if not self.group.wait(timeout_s):
            raise ConfigError(
                f"Ray must have room for {num_shards} memory shards of {bundles[0]} each, "
                f"placed by {_STRATEGY}; after {timeout_s:g} s it has {ray.available_resources()}"
            )
        one_node = sum(bool(node["Alive"]) for node in ray.nodes()) == 1
        host = LOOPBACK if one_node else str(ray.util.get_node_ip_address())
        self.meeting_point, rendezvous = open_rendezvous(host, timeout_s)
        for shard, bundle in enumerate(bundles):
            options = {
                "num_cpus": 0,
                "memory": bundle["memory"],
                "max_restarts": 0,
                "max_task_retries": 0,
                "scheduling_strategy": PlacementGroupSchedulingStrategy(
                    self.group, placement_group_bundle_index=shard
                ),
            }
            actor = ray.remote(ShardActor).options(**options).remote()
            self.actors.append(actor)
            of_shard = (layout, placement, shard, num_workers, timeout_s, answer_s)
            self.ends.append(actor.host.remote(rendezvous, *of_shard))
        early, _ = ray.wait(self.ends, timeout=0)
        if early:  # raises the error of an actor that has already failed
            ray.get(early)
        return rendezvous

    def stop(self, at_once: bool = False) -> None:
        """End the actors; unless `at_once`, give them time to end by themselves."""
        if self.group is None:
            return
        import ray
        from ray.util import remove_placement_group

        with suppress(ray.exceptions.RayError):
            if self.ends and not at_once:
                ray.wait(self.ends, num_returns=len(self.ends), timeout=_LEAVE_S)
            for actor in self.actors:
                ray.kill(actor)
            remove_placement_group(self.group)
        self.actors, self.ends, self.group, self.meeting_point = [], [], None, None
