"""Counts of past events of candidate destinations, and baselines.

Shapes: n sources, C destinations of each, M destinations that a source has met.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.inference.walker import MemoryWalker
from pres_dist.sampling.event_groups import find
from pres_dist.sampling.event_log import RECENT_EVENTS


@dataclass(frozen=True)
class Past:
    """Counts of the events before a point of the stream.

    Attributes:
        event: id of the first event that is not counted.
        latest_nC: id of the last event from each source to its destination; -1 if none.
        popular_nC: number of events of the destination.
        lately_nC: number of its events among the last `RECENT_EVENTS` of the stream.
    """

    event: int
    latest_nC: Tensor
    popular_nC: Tensor
    lately_nC: Tensor

    def baselines(self) -> dict[str, Tensor]:
        """Return the [n, C] scores of each baseline by name; none of them is learned."""
        # A count is at most the number of events, so destinations that were met rank above all
        # others.
        both_nC = torch.where(self.latest_nC >= 0, self.event + self.latest_nC, self.popular_nC)
        return {
            "most popular": self.popular_nC,
            "last destinations": self.latest_nC,
            "last destinations, then most popular": both_nC,
        }


class History:
    """Counts of past events.

    Args:
        walker: walker over the events.
    """

    def __init__(self, walker: MemoryWalker) -> None:
        self._walker = walker
        self._popular_N = torch.zeros(walker.num_nodes, dtype=torch.int64, device=walker.device)
        self._counted = 0
        """Number of events, the first of the stream, that are counted in `_popular_N`."""

    def before(self, event: int, src_n: Tensor, dst_C: Tensor) -> Past:
        """Count the events before an event.

        Args:
            event: id of the first event that is not counted.
            src_n: sources.
            dst_C: [C] destinations for all sources, or [n, C] with those of each source.
        """
        dst_nC = dst_C.expand(src_n.numel(), -1)
        latest = [self._latest(*each, event) for each in zip(src_n.tolist(), dst_nC, strict=True)]
        recent = self._walker.pipeline.tables.dst_E[max(event - RECENT_EVENTS, 0) : event]
        popular_N = self._popular_before(event)
        lately_N = torch.bincount(recent, minlength=popular_N.numel())
        return Past(event, torch.stack(latest), popular_N[dst_nC], lately_N[dst_nC])

    def _latest(self, node: int, dst_C: Tensor, event: int) -> Tensor:
        """Return the last event of a source with each destination; -1 if there is none."""
        tables = self._walker.pipeline.tables
        events = self._walker.events_of(node, event)
        events = events[tables.src_E[events] == node]  # it may be the destination of others
        met_M, place = torch.unique(tables.dst_E[events], return_inverse=True)
        latest_M = torch.zeros_like(met_M).scatter_reduce_(0, place, events, "amax")
        at_C, met_C = find(met_M, dst_C)
        # A destination that was not met reads the row that is padded at the end.
        at_C = torch.where(met_C, at_C, met_M.numel())
        return F.pad(latest_M, (0, 1), value=-1)[at_C]

    def _popular_before(self, event: int) -> Tensor:
        """Return the [N] number of events of each destination before an event.

        Only the events since the last call are counted: queries come mostly in order of time.
        """
        dst_E = self._walker.pipeline.tables.dst_E
        # Counts are integers, so going back subtracts exactly what going forward has added.
        between = dst_E[min(event, self._counted) : max(event, self._counted)]
        counts_N = torch.bincount(between, minlength=self._popular_N.numel())
        self._popular_N += counts_N if event > self._counted else -counts_N
        self._counted = event
        return self._popular_N
