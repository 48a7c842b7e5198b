"""How many nodes there may be: rows of node memory are allocated for each number."""

from __future__ import annotations

import math
from pathlib import Path

import psutil

from pres_dist.errors import DataError
from pres_dist.wording import setting

NODE_BYTES = 16
"""What every use of a stream holds for a node at least: its degree and its place."""
FEW_NODES = 1_000_000
SPARSE = 10
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def is_sparse(num_nodes: int, used: int) -> bool:
    """Return whether ids are far more than the nodes that have events.

    The rule of ``ids=auto``: more than a million node numbers, and more than ten times as many
    as are used. Account numbers and hashes are, numbers that were counted up are not.
    """
    return num_nodes > FEW_NODES and num_nodes > SPARSE * used


def check_capacity(num_nodes: int, where: str, node_bytes: int = NODE_BYTES) -> None:
    """Raise DataError where the rows of so many nodes exceed the memory of this machine.

    Args:
        num_nodes: rows that this process allocates.
        where: file or stream that they are of.
        node_bytes: of a row.
    """
    limit = memory_bytes()
    if num_nodes * node_bytes <= limit:
        return
    raise DataError(
        f"{where}: rows for {num_nodes:,} node numbers take at least "
        f"{_gib(num_nodes * node_bytes)} of memory, and there are {_gib(limit)}; an import with "
        f"{setting('ids', 'map')} numbers nodes without gaps"
    )


def memory_bytes() -> int:
    """Return the memory that this process may fill: the machine's, or its container's."""
    limits = [float(psutil.virtual_memory().total)]
    for file in _CGROUPS:
        try:
            limits.append(float(Path(file).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            limits.append(math.inf)
    return int(min(limits))


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
