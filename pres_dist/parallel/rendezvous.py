"""Where the workers that torchrun started find one another: the store of an attempt."""

from __future__ import annotations

import ipaddress
import os
import socket
from datetime import timedelta

import torch.distributed as dist

from pres_dist.errors import ConfigError


def worker_store(timeout: timedelta) -> dist.Store | None:
    """A store that only this attempt's workers write to, for `init_process_group`.

    Torch's own choice has two faults. A store that the agent of torchrun shares with the
    workers outlives a restart, so that a quick worker reads the address of one that died.
    And a store of the workers listens on all interfaces, wherever MASTER_ADDR points.

    Args:
        timeout: how long to wait for the other workers.

    Returns:
        A store, or None where torch's choice is as good: several machines that share the
        agent's store, or an address that other machines must reach.

    Raises:
        ConfigError: MASTER_ADDR and MASTER_PORT cannot be listened on.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        if os.environ.get("GROUP_WORLD_SIZE") != "1":
            return None  # the machines count their restarts apart, see launch/torchrun_nodes.sh
        store = dist.TCPStore(host, port, size, is_master=False, timeout=timeout)
        return dist.PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    if not _is_loopback(host):
        return None
    listening = _listen(host, port) if rank == 0 else None
    return dist.TCPStore(host, port, size, rank == 0, timeout, master_listen_fd=listening)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> int:
    """Descriptor of a socket bound to this address alone; the store takes it over."""
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
