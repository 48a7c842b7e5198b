"""Process group of workers started by torchrun, over a store that only this attempt uses."""

from __future__ import annotations

import ipaddress
import os
import socket
from contextlib import suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from pres_dist.errors import ConfigError
from pres_dist.parallel.device import group_arguments
from pres_dist.parallel.loopback import stay_on_loopback


def init_process_group(device: torch.device, timeout: timedelta) -> None:
    """Initialize the process group of a torchrun worker, with a store for each attempt.

    If all workers are on one machine, they listen on loopback only, unless GLOO_SOCKET_IFNAME
    or NCCL_SOCKET_IFNAME names another interface.

    Args:
        device: of this worker.
        timeout: for the other workers, here and in collectives.

    Raises:
        ConfigError: worker 0 cannot listen on MASTER_ADDR and MASTER_PORT.
    """
    os.environ.update(stay_on_loopback(os.environ))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _attempt_store(rank, size, timeout)
    dist.init_process_group(
        timeout=timeout, store=store, rank=rank, world_size=size, **group_arguments(device)
    )


def _attempt_store(rank: int, size: int, timeout: timedelta) -> dist.Store | None:
    """Return a store that only this attempt's workers write to; None if torch's own suffices.

    Torch's own store has two faults. The one that torchrun's agent shares with the workers
    outlives a restart, so that a fast worker may read the address of a dead one. And the one
    that the workers open listens on all interfaces, whatever MASTER_ADDR is.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        if os.environ.get("GROUP_WORLD_SIZE") != "1":
            # Machines count their restarts separately; launch/torchrun_nodes.sh shares no store.
            return None
        store = dist.TCPStore(host, port, size, is_master=False, timeout=timeout)
        return dist.PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    loopback = host == "localhost"
    with suppress(ValueError):  # a host name
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if not loopback:
        return None
    listening = _listen(host, port) if rank == 0 else None
    return dist.TCPStore(host, port, size, rank == 0, timeout, master_listen_fd=listening)


def _listen(host: str, port: int) -> int:
    """Return the descriptor of a socket bound to this address only; the store will own it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    server = socket.socket(family, kind, protocol)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(address)
    except OSError as error:
        server.close()
        raise ConfigError(
            f"worker 0 cannot listen on MASTER_ADDR {host}, MASTER_PORT {port}: {error.strerror}"
        ) from None
    return server.detach()
