"""Input of the baselines: the candidate destinations of each event.

Shapes: n events, C = 1 + M candidates, E events of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pres_dist.events.tables import EventTables


@dataclass(frozen=True)
class Candidates:
    """The true destination of each event, then its negatives, and the events a score may read.

    All tensors are [n, C] int64.

    Attributes:
        src: source of the event, repeated for each candidate.
        dst: the candidates.
        before: id of the first event at the event's time; it and later ones are not visible.
        window: id of the first event within the time window.
    """

    src: Tensor
    dst: Tensor
    before: Tensor
    window: Tensor


class Baseline(Protocol):
    """A baseline that scores links without training."""

    def scores(self, candidates: Candidates) -> dict[str, Tensor]:
        """Return [n, C] non-negative scores by the name of the baseline."""


def candidates_of(
    tables: EventTables, events_n: Tensor, negatives_nM: Tensor, duration: int
) -> Candidates:
    """Return the candidates of events.

    Args:
        tables: columns of the stream.
        events_n: event ids.
        negatives_nM: their negatives.
        duration: length of the time window, in the stream's time unit.
    """
    src_n, dst_n = tables.src_E[events_n], tables.dst_E[events_n]
    t_n = tables.t_E[events_n]
    dst = torch.cat([dst_n[:, None], negatives_nM], dim=1)
    before_n = torch.searchsorted(tables.t_E, t_n)
    # Times may lie near the smallest int64, where the window's start would wrap around.
    never = torch.iinfo(torch.int64).min
    start_n = torch.where(t_n < never + duration, never, t_n - duration)
    window_n = torch.searchsorted(tables.t_E, start_n)
    rows = (column[:, None].expand_as(dst) for column in (src_n, before_n, window_n))
    src, before, window = rows
    return Candidates(src, dst, before, window)
