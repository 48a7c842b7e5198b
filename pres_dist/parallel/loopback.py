"""The interface that is of this machine alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping

INTERFACES = dict.fromkeys(
    ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), "lo0" if sys.platform == "darwin" else "lo"
)
"""What keeps gloo and NCCL on it."""


def stay_on_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep workers of one machine on loopback; none where interfaces are chosen.

    Args:
        environment: what torchrun has set. Workers of several machines need another interface.
    """
    local, in_all = environment.get("LOCAL_WORLD_SIZE"), environment.get("WORLD_SIZE")
    if local is None or local != in_all:
        return {}
    return {name: lo for name, lo in INTERFACES.items() if not environment.get(name)}
