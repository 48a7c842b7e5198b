"""Where a sweep over events is cut into temporal batches: never between equal times."""

from __future__ import annotations

import numpy as np


def batch_bounds(t: np.ndarray, batch_size: int) -> list[int]:
    """First event of each temporal batch, and the number of events at the end.

    An event must not see another one of its own time. Were a batch to end inside a
    run of equal times, the rest of the run would read memory that its first part had
    written. So a cut moves back to the start of the run, or, when the batch would then
    be empty, on to its end.

    Args:
        t: [n] times, non-decreasing.
        batch_size: events in a batch, before a cut is moved.
    """
    bounds = [0]
    while bounds[-1] < t.size:
        cut = bounds[-1] + batch_size
        if cut < t.size and t[cut - 1] == t[cut]:
            run_start = int(np.searchsorted(t, t[cut], side="left"))
            cut = run_start if run_start > bounds[-1] else int(np.searchsorted(t, t[cut], "right"))
        bounds.append(min(cut, t.size))
    return bounds
