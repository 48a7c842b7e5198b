"""Rendezvous of workers and memory shards, and the process group they form.

The first W of the W + S ranks in the group are workers, the last S are shards. Anyone who
can reach the group's ports can read and write node memory, so the ports are bound to a
single address, by default the loopback.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

from torch import Tensor
from torch.distributed import PrefixStore, ProcessGroupGloo, Store, TCPStore, Work

from pres_dist.errors import StoreError, first_line

LOOPBACK = "127.0.0.1"


class Group(Protocol):
    """The methods of a process group that links use."""

    def rank(self) -> int:
        """Return the rank of this process."""

    def size(self) -> int:
        """Return the number of processes."""

    def send(self, tensors: list[Tensor], peer: int, tag: int) -> Work:
        """Start to send a tensor to another process."""

    def recv(self, tensors: list[Tensor], peer: int, tag: int) -> Work:
        """Start to receive a tensor from another process."""


@dataclass(frozen=True)
class Rendezvous:
    """Rendezvous of the workers and shards of one incarnation, at a TCP store.

    Attributes:
        host, port: address of the store; others reach a process at the address from which it
            reaches this host.
        incarnation: number unique to these shards.
    """

    host: str
    port: int
    incarnation: int

    def connect(self, timeout_s: float) -> Store:
        """Return a key-value store shared by all workers and shards."""
        return TCPStore(
            self.host,
            self.port,
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=timeout_s),
        )


def open_rendezvous(host: str, timeout_s: float) -> tuple[TCPStore, Rendezvous]:
    """Open a rendezvous in this process, at an address that all others can reach.

    The store must stay alive until all have joined.
    """
    listener = socket.create_server((host, 0), backlog=256)
    port = listener.getsockname()[1]
    # By default the store would listen on all addresses of the machine.
    store = TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout_s),
        master_listen_fd=listener.detach(),
    )
    return store, Rendezvous(host, port, secrets.randbits(62))


def join_group(rendezvous: Rendezvous, rank: int, size: int, timeout_s: float) -> Group:
    """Join the process group of all workers and shards; needs no default process group.

    Args:
        rendezvous: the rendezvous.
        rank: rank in the group, workers first, then shards.
        size: number of workers and shards.
        timeout_s: seconds to wait for the others.

    Raises:
        StoreError: not all workers and shards joined in time.
    """
    try:
        store = rendezvous.connect(timeout_s)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((rendezvous.host, 9))  # sends nothing, but selects the own address
            address: str = probe.getsockname()[0]
        # The public constructor would listen on the address that the host name resolves to.
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._timeout = timedelta(seconds=timeout_s)
        options._devices = [ProcessGroupGloo.create_device(hostname=address)]
        prefix = f"memory-{rendezvous.incarnation}"
        group: Any = ProcessGroupGloo(PrefixStore(prefix, store), rank, size, options)
        return cast(Group, group)
    except RuntimeError as error:
        raise StoreError(
            f"all {size} workers and memory shards must meet at {rendezvous} within "
            f"{timeout_s:g} s; rank {rank} could not: {first_line(error)}"
        ) from error
