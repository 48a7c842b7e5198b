"""Memory shards as Ray actors with host memory of their own.

A dead shard is not restarted, because a new actor would have lost its content. Its workers
raise `StoreError`. Restarting the run starts new shards, which load the checkpoint. The
actors end with the worker that started them.

Ray is imported when shards are started.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from pres_dist.errors import ConfigError
from pres_dist.memory.placement import Placement
from pres_dist.memory.server import ServerStore
from pres_dist.memory.shard_group import LOOPBACK, Rendezvous, join_group, open_rendezvous
from pres_dist.memory.shard_layout import ShardLayout
from pres_dist.memory.shard_service import host_shard
from pres_dist.parallel.world import World

_LEAVE_S = 10.0
"""Seconds that a shard has to end by itself once all workers have left."""


@dataclass(frozen=True)
class ShardResources:
    """Resources that Ray reserves for each shard, and their placement.

    Attributes:
        num_cpus: 0 by default: a shard works while its workers wait, so workers may use all
            CPUs of a machine.
        memory_bytes: None reserves what the rows need.
        strategy: of the placement group; SPREAD puts shards on different nodes if possible.
    """

    num_cpus: float = 0.0
    memory_bytes: int | None = None
    strategy: str = "SPREAD"

    def bundle(self, layout: ShardLayout, num_rows: int) -> dict[str, float]:
        """Return the resources of one shard by Ray's names; never empty, which Ray refuses."""
        memory = self.memory_bytes or max(layout.num_bytes(num_rows), 1 << 20)
        return {"memory": float(memory)} | ({"CPU": self.num_cpus} if self.num_cpus else {})


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
    resources: ShardResources | None = None,
    host: str | None = None,
    answer_s: float | None = None,
) -> tuple[ServerStore, EndShards]:
    """Start the shards of a store, `placement.world` of them; called by all workers.

    Ray must be initialized on rank 0: it is in a Ray actor, and elsewhere after `ray.init`.

    Args:
        world: the workers that share the memory: `World.own_replica`.
        placement: mapping of nodes to shards.
        layout: sizes of the rows.
        timeout_s: seconds to wait for Ray to place the shards, and for all processes to join.
        resources: reserved by Ray for each shard.
        host: address of rank 0 for all others; None uses loopback if Ray has one node, and
            else the address of this node in the cluster.
        answer_s: seconds to wait for every later answer; None uses `timeout_s`.

    Returns:
        this worker's side of the store, and a callable that all workers call to end it.

    Raises:
        ConfigError: on all workers, if Ray does not run here or has no room for the shards.
        StoreError: on all workers, if the shards did not join.
    """
    shards, answer_s = ActorShards(), timeout_s if answer_s is None else answer_s
    try:
        rendezvous = world.run_on_rank0(
            lambda: shards.start(
                world.size,
                placement,
                layout,
                (timeout_s, answer_s),
                resources or ShardResources(),
                host,
            )
        )
        size = world.size + placement.world
        group = join_group(rendezvous, world.rank, size, timeout_s)
    except BaseException:
        shards.stop(at_once=True)
        raise
    store = ServerStore(group, placement, layout, rendezvous.incarnation, answer_s)
    return store, EndShards(store, shards)


@dataclass(frozen=True)
class EndShards:
    """Callable that ends the shards; all workers call it after the run, also after a failure."""

    store: ServerStore
    shards: ActorShards

    def __call__(self) -> None:
        self.store.leave()
        self.shards.stop()


@dataclass
class ActorShards:
    """The shard actors, on rank 0; empty on the other workers."""

    actors: list[Any] = field(default_factory=list)
    ends: list[Any] = field(default_factory=list)
    group: Any = None
    meeting_point: Any = None

    def start(
        self,
        num_workers: int,
        placement: Placement,
        layout: ShardLayout,
        timeouts_s: tuple[float, float],
        resources: ShardResources,
        host: str | None,
    ) -> Rendezvous:
        """Place and start the actors, which then wait for the workers.

        `timeouts_s` holds the seconds for that and for later answers.
        """
        ray = _running_ray()
        timeout_s, answer_s = timeouts_s
        num_shards = placement.world
        rows = [len(placement.nodes_of(shard)) for shard in range(num_shards)]
        bundles = [resources.bundle(layout, num_rows) for num_rows in rows]
        self._place(bundles, resources.strategy, timeout_s)
        self.meeting_point, rendezvous = open_rendezvous(host or _own_host(), timeout_s)
        for shard, num_rows in enumerate(rows):
            actor = self._actor(shard, bundles[shard])
            self.actors.append(actor)
            self.ends.append(
                actor.host.remote(
                    rendezvous,
                    layout,
                    num_rows,
                    shard,
                    num_workers,
                    num_shards,
                    timeout_s,
                    answer_s,
                )
            )
        early, _ = ray.wait(self.ends, timeout=0)
        if early:
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

    def _place(self, bundles: list[dict[str, float]], strategy: str, timeout_s: float) -> None:
        import ray
        from ray.util import placement_group

        self.group = placement_group(bundles, strategy=strategy)
        if not self.group.wait(timeout_s):
            raise ConfigError(
                f"Ray must have room for {len(bundles)} memory shards of {bundles[0]} each, "
                f"placed by {strategy}; after {timeout_s:g} s it has {ray.available_resources()}"
            )

    def _actor(self, shard: int, bundle: dict[str, float]) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return (
            ray.remote(ShardActor)
            .options(
                num_cpus=bundle.get("CPU", 0.0),
                memory=bundle["memory"],
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self.group, placement_group_bundle_index=shard
                ),
            )
            .remote()
        )


def _running_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "memory.store: server keeps shards in Ray actors, and Ray is not installed"
        ) from error
    if not ray.is_initialized():
        raise ConfigError(
            "memory.store: server keeps shards in Ray actors, and Ray does not run here; "
            "start the run by pres-dist ray, or take memory.store: sharded"
        )
    return ray


def _own_host() -> str:
    import ray

    if sum(bool(node["Alive"]) for node in ray.nodes()) == 1:
        return LOOPBACK
    host: str = ray.util.get_node_ip_address()
    return host
