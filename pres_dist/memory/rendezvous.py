"""Where workers and memory shards find each other, and the process group they form.

Of the W + S ranks of the group the workers are the first W and the shards the last S.
Who can reach its ports can read and write node memory: they are bound to one address,
the loopback unless told otherwise.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

from torch import Tensor
from torch.distributed import PrefixStore, ProcessGroupGloo, Store, TCPStore, Work

from pres_dist.errors import StoreError

LOOPBACK = "127.0.0.1"


class Group(Protocol):
    """What is used of a process group."""

    def rank(self) -> int: ...

    def size(self) -> int: ...

    def send(self, tensors: list[Tensor], peer: int, tag: int) -> Work: ...

    def recv(self, tensors: list[Tensor], peer: int, tag: int) -> Work: ...


class Rendezvous(Protocol):
    """Where workers and shards of one incarnation find each other.

    Attributes:
        host: whose address towards this process is the one that others reach it at.
        incarnation: a number that no other shards have.
    """

    @property
    def host(self) -> str: ...

    @property
    def incarnation(self) -> int: ...

    def connect(self, timeout_s: float) -> Store:
        """A store that all of them share."""


@dataclass(frozen=True)
class TCPRendezvous:
    """A meeting point in some process of the network."""

    host: str
    port: int
    incarnation: int

    def connect(self, timeout_s: float) -> Store:
        return TCPStore(
            self.host,
            self.port,
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=timeout_s),
        )


def open_rendezvous(host: str, timeout_s: float) -> tuple[TCPStore, TCPRendezvous]:
    """A meeting point in this process, at an address of it that all others reach.

    It must live until all have joined.
    """
    listener = socket.create_server((host, 0), backlog=256)
    port = listener.getsockname()[1]
    # Left to itself the store would listen at all addresses of the machine.
    store = TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout_s),
        master_listen_fd=listener.detach(),
    )
    return store, TCPRendezvous(host, port, secrets.randbits(62))


def join_group(
    rendezvous: Rendezvous, rank: int, size: int, timeout_s: float, address: str | None = None
) -> Group:
    """The process group of all workers and shards; it needs no default group beside it.

    Args:
        rendezvous: where to meet.
        rank: in the group: workers first, then shards.
        size: workers and shards.
        timeout_s: seconds to wait for the others.
        address: of this process, for the others; None takes the one from which it
            reaches the rendezvous.

    Raises:
        StoreError: somebody did not come in time.
    """
    try:
        store = rendezvous.connect(timeout_s)
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._timeout = timedelta(seconds=timeout_s)
        options._devices = [
            ProcessGroupGloo.create_device(hostname=address or _own_address(rendezvous.host))
        ]
        prefix = f"memory-{rendezvous.incarnation}"
        group: Any = ProcessGroupGloo(PrefixStore(prefix, store), rank, size, options)
        return cast(Group, group)
    except RuntimeError as error:
        raise StoreError(
            f"all {size} workers and memory shards must meet at {rendezvous} within "
            f"{timeout_s:g} s; rank {rank} could not: {first_line(error)}"
        ) from error


def _own_address(host: str) -> str:
    """The address from which this process reaches the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        address: str = probe.getsockname()[0]
    return address


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
