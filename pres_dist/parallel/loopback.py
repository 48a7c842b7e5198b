"""Network settings that keep workers of one machine on the loopback interface."""

from __future__ import annotations

import sys
from collections.abc import Mapping

INTERFACES = dict.fromkeys(
    ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), "lo0" if sys.platform == "darwin" else "lo"
)
"""Environment variables that keep gloo and NCCL on loopback."""


def stay_on_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep workers of one machine on loopback, unless set already.

    Args:
        environment: as set by torchrun. For workers of several machines, which need another
            interface, no variables are returned.
    """
    local, in_all = environment.get("LOCAL_WORLD_SIZE"), environment.get("WORLD_SIZE")
    if local is None or local != in_all:
        return {}
    return {name: lo for name, lo in INTERFACES.items() if not environment.get(name)}
