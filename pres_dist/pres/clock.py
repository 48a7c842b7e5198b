"""The unit of transition rates: elapsed time, log time or events."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ClockKind = Literal["time", "log", "event"]


class TransitionClock:
    """Measures the length of a transition, in units in which a node is assumed to drift evenly.

    `time` is elapsed time, as in the paper. Gaps between a node's events span many
    orders of magnitude, so that rates per unit of time are badly conditioned.
    `log` is log(1 + elapsed time), and `event` the number of events in the transition.
    A transition of length 0 (both ends at one time) has no rate: callers skip it.

    Args:
        kind: time, log or event.
        time_unit: length of one unit of time, in the stream's own units.
    """

    def __init__(self, kind: ClockKind, time_unit: float) -> None:
        self.kind = kind
        self.time_unit = time_unit

    def __call__(self, elapsed: Tensor, count: Tensor) -> Tensor:
        """Return the float32 length of transitions (any shape).

        Args:
            elapsed: int64 time from the old state to the new one.
            count: int64 events of the node in that time.
        """
        if self.kind == "event":
            # A product: `where` with a number of Python launches one kernel more on a GPU.
            return (count * (elapsed > 0)).to(torch.float32)
        units = elapsed.to(torch.float32) / self.time_unit
        return torch.log1p(units) if self.kind == "log" else units
