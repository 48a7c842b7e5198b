"""Memory limit on the number of nodes: rows are allocated for every node number."""

from __future__ import annotations

from pathlib import Path

import psutil

from pres_dist.errors import DataError
from pres_dist.wording import setting

NODE_BYTES = 16
"""Least bytes that any use of a stream holds per node: its degree and its position."""
FEW_NODES = 1_000_000
SPARSE = 10
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def is_sparse(num_nodes: int, used: int) -> bool:
    """Return True if there are far more node numbers than nodes with events.

    The rule of ``ids=auto``: more than a million node numbers, and more than ten times as many
    as are used. Account numbers and hashes are sparse; consecutive numbers are not.
    """
    return num_nodes > FEW_NODES and num_nodes > SPARSE * used


def check_capacity(num_nodes: int, where: str, node_bytes: int = NODE_BYTES) -> None:
    """Raise DataError if the rows of `num_nodes` nodes exceed the memory of this machine.

    Args:
        num_nodes: rows that this process allocates.
        where: file or stream that the nodes belong to.
        node_bytes: bytes per row.
    """
    needed, limit = num_nodes * node_bytes, memory_bytes()
    if needed > limit:
        hint = f"an import with {setting('ids', 'map')} numbers nodes without gaps"
        if num_nodes <= FEW_NODES:
            hint = f"a row has {node_bytes:,} bytes (memory.dim, memory.mailbox_slots)"
        raise DataError(
            f"{where}: rows for {num_nodes:,} node numbers take at least {needed / 2**30:,.1f} GiB "
            f"of memory, and there are {limit / 2**30:,.1f} GiB; {hint}"
        )


def memory_bytes() -> int:
    """Return the memory limit of this process in bytes: the machine's, or its container's."""
    # A container sees the memory of its host, but may use only what its cgroup allows.
    limits = [float(psutil.virtual_memory().total)]
    for file in _CGROUPS:
        try:
            limits.append(float(Path(file).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return int(min(limits))
