"""Import of DGL; no other module imports it."""

from __future__ import annotations

import os
from typing import Any

from pres_dist.errors import ConfigError


def load_dgl() -> Any:
    """Return the package dgl with its PyTorch backend; raise ConfigError if import fails."""
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else DGL writes a file into the home folder
    try:
        import dgl
    except ImportError as error:
        raise ConfigError(
            f"this needs the package dgl, which cannot be imported: {error}"
        ) from None
    return dgl
