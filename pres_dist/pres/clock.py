"""What a node's transition rate is per."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ClockKind = Literal["time", "log", "event"]


class TransitionClock:
    """Length of a transition, in units in which a node is taken to drift evenly.

    `time` is the paper's: elapsed time. Gaps between a node's events span many
    orders of magnitude, so that rates per unit of time are badly conditioned;
    `log` counts log(1 + elapsed time), `event` the events that the transition stands
    for. A transition of length 0 (both ends at one time) has no rate: callers leave
    it out.

    Args:
        kind: time, log or event.
        time_unit: what one unit of time is, in the stream's own units.
    """

    def __init__(self, kind: ClockKind, time_unit: float) -> None:
        self.kind = kind
        self.time_unit = time_unit

    def __call__(self, elapsed: Tensor, count: Tensor) -> Tensor:
        """float32 length of transitions (any shape).

        Args:
            elapsed: int64 time from the old state to the new one.
            count: int64 events of the node in that time.
        """
        units = elapsed.to(torch.float32) / self.time_unit
        if self.kind == "log":
            return torch.log1p(units)
        if self.kind == "event":
            return torch.where(elapsed > 0, count, 0).to(torch.float32)
        return units
