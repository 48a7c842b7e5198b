"""Leaks planted on purpose: each a small variant of one shipped component.

Every one has been seen in published code of this field or in its evaluation scripts, or is
what the code beside it would do with one line changed.
"""

from __future__ import annotations

from tests.leaks import (
    planted_data,  # noqa: F401  enters its leaks
    planted_log,  # noqa: F401
    planted_reads,  # noqa: F401
)
from tests.leaks.planting import PLANTED, Planted

__all__ = ["PLANTED", "Planted"]
