"""Bounds of temporal batches, which never separate events of equal time."""

from __future__ import annotations

import numpy as np


def batch_bounds(t: np.ndarray, batch_size: int) -> list[int]:
    """Return the first event of each temporal batch, followed by the number of events.

    An event must not see another event of its own time. If a batch ended inside a run
    of equal times, the rest of the run would read memory written by its first part. So
    a cut inside a run moves back to the start of the run or, if the batch would then be
    empty, forward to its end.

    Args:
        t: [n] times, non-decreasing.
        batch_size: events per batch, before a cut is moved.
    """
    bounds = [0]
    while bounds[-1] < t.size:
        cut = bounds[-1] + batch_size
        if cut < t.size and t[cut - 1] == t[cut]:
            run_start = int(np.searchsorted(t, t[cut], side="left"))
            cut = run_start if run_start > bounds[-1] else int(np.searchsorted(t, t[cut], "right"))
        bounds.append(min(cut, t.size))
    return bounds
