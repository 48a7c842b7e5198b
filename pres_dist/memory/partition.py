"""stub"""

from __future__ import annotations

import numpy as np


def streaming_partition(src: np.ndarray, dst: np.ndarray, num_nodes: int, world: int) -> np.ndarray:
    return np.arange(num_nodes) % world
