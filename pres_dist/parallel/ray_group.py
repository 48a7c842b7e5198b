"""Rendezvous of Ray Train workers on the addresses of their nodes.

Ray Train's own rendezvous has two faults. The store of worker 0 listens on all interfaces, even if
the cluster is on loopback. And gloo listens on the address that the host name resolves to, often a
loopback one, so that workers on different nodes cannot connect.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig

from pres_dist.memory.shard_group import Rendezvous, open_rendezvous
from pres_dist.parallel.device import device_of, group_arguments
from pres_dist.parallel.loopback import INTERFACES

_held: list[dist.Store] = []
"""Store of this process, which must live as long as the group."""


class GroupOnNodeAddresses(TorchConfig().backend_cls):  # type: ignore[misc]
    """Ray Train backend that joins workers on the addresses of their nodes in the cluster."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Make the process group; called by Ray Train once all workers have started."""
        size, timeout_s = len(worker_group), backend_config.timeout_s
        on_gpu = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        rendezvous = worker_group.execute_single(0, _open, timeout_s)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, _join, rendezvous, rank, size, "cuda" if on_gpu else "cpu", timeout_s
                )
                for rank in range(size)
            ]
        )


@dataclass
class GroupConfig(TorchConfig):
    """`TorchConfig` that joins workers by `GroupOnNodeAddresses`."""

    @property
    def backend_cls(self) -> type[GroupOnNodeAddresses]:
        """Class that Ray Train instantiates."""
        return GroupOnNodeAddresses


def interface_of(address: str) -> str | None:
    """Return the network interface of this machine that has an address; None if none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return name
    return None


def _open(timeout_s: float) -> Rendezvous:
    """Make the store of all workers in the process of worker 0."""
    store, rendezvous = open_rendezvous(ray.util.get_node_ip_address(), timeout_s)
    _held.append(store)
    return rendezvous


def _join(rendezvous: Rendezvous, rank: int, size: int, device: str, timeout_s: float) -> None:
    """Join this worker to the process group."""
    context = ray.train.get_context()
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK=str(context.get_local_rank()),
        LOCAL_WORLD_SIZE=str(context.get_local_world_size()),
    )
    interface = interface_of(ray.util.get_node_ip_address())
    if interface is not None:
        for name in INTERFACES:
            os.environ.setdefault(name, interface)
    dist.init_process_group(
        store=rendezvous.connect(timeout_s),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout_s),
        **group_arguments(device_of(device)),
    )
