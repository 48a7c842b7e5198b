"""Failpoints: named places of a run at which tests make it fail.

PRES_DIST_FAILPOINTS is `MODULE:FUNCTION ARGUMENT`: FUNCTION(ARGUMENT, rank, shard) returns the
function that every failpoint of this process calls. Without the variable a failpoint only
compares a global with None. `tests/support/fault_injector.py` is such a module.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable

from pres_dist.errors import ConfigError

VARIABLE = "PRES_DIST_FAILPOINTS"

_inject: Callable[[str, int | None], None] | None = None


def set_identity(*, rank: int | None = None, shard: int | None = None) -> None:
    """Set which worker or memory shard this process is, and load its fault injector, if any.

    Raises:
        ConfigError: PRES_DIST_FAILPOINTS names no function.
    """
    global _inject
    _inject = None
    if not (value := os.environ.get(VARIABLE)):
        return
    name, _, argument = value.partition(" ")
    try:
        make = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{VARIABLE} must be MODULE:FUNCTION ARGUMENT, got {value[:200]!r}: {error}"
        ) from None
    _inject = make(argument, rank, shard)


def failpoint(place: str, step: int | None = None) -> None:
    """Call the fault injector, if any.

    Args:
        place: name of this place.
        step: completed steps of the run (of a shard: writes); None keeps those of the last call.
    """
    if _inject is not None:
        _inject(place, step)
