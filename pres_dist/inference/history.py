"""What sources and everyone did before: features of candidate destinations, and baselines.

Shapes: n sources, C destinations, F features.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.event_groups import EventGroups, PairKeys

FEATURES = ("met", "last", "recency", "repeats", "popularity", "recent_popularity")
RECENT_EVENTS = 1000
"""What is popular now: among so many last events of the stream, as in the popularity baseline."""


class History:
    """Counts of earlier events, for a query that sees those before an event id.

    Args:
        stream: the events.
        tables: their columns.
    """

    def __init__(self, stream: EventStream, tables: EventTables) -> None:
        self._num_events = stream.num_events
        self._keys = PairKeys(stream, tables.src_E, tables.dst_E)
        self._pairs = EventGroups(self._keys.ordered(tables.src_E, tables.dst_E))
        self._destinations = EventGroups(tables.dst_E)

    def latest(self, src_n: Tensor, dst_n: Tensor, before_n: Tensor) -> Tensor:
        """Id of the last event from each source to its destination; -1 where there is none."""
        return self._pairs.latest(self._keys.ordered(src_n, dst_n), before_n)

    def features(self, src_n: Tensor, before_n: Tensor, dst_C: Tensor) -> Tensor:
        """[n, C, F] float32, in the order of `FEATURES`, of the same [C] destinations for all
        sources or of [n, C] of their own.

        Whether the source has met the destination; whether it was its last one; 1 / its
        place among those that the source met, the last one first; and the logarithm of
        1 + the events between the two, of the destination, and of the destination among
        the last `RECENT_EVENTS` of the stream.
        """
        src_nC, dst_nC, before_nC = self._all(src_n, before_n, dst_C)
        pair_nC = self._keys.ordered(src_nC, dst_nC)
        latest_nC = self._pairs.latest(pair_nC, before_nC)
        met_nC = latest_nC >= 0
        place_nC = latest_nC.argsort(1, descending=True).argsort(1)
        (repeats_nC,) = self._pairs.counts(pair_nC, before_nC)
        recent_nC = (before_nC - RECENT_EVENTS).clamp(min=0)
        popular_nC, lately_nC = self._destinations.counts(dst_nC, before_nC, recent_nC)
        columns = (
            met_nC,
            met_nC & (place_nC == 0),
            met_nC / (1 + place_nC),
            repeats_nC.float().log1p(),
            popular_nC.float().log1p(),
            lately_nC.float().log1p(),
        )
        return torch.stack([column.float() for column in columns], dim=2)

    def baselines(
        self, src_n: Tensor, before_n: Tensor, dst_C: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        """[n, C] scores that nothing was learned for, by name."""
        src_nC, dst_nC, before_nC = self._all(src_n, before_n, dst_C)
        (count_nC,) = self._destinations.counts(dst_nC, before_nC)
        latest_nC = self.latest(src_nC, dst_nC, before_nC)
        yield "most popular", count_nC
        yield "last destinations", latest_nC
        # A destination's count is below the number of events, and so below any that was met.
        both_nC = torch.where(latest_nC >= 0, self._num_events + latest_nC, count_nC)
        yield "last destinations, then most popular", both_nC

    def _all(self, src_n: Tensor, before_n: Tensor, dst_C: Tensor) -> tuple[Tensor, ...]:
        """[n, C] sources, destinations and bounds: each source with every destination, or with
        its own."""
        shape = (src_n.numel(), dst_C.shape[-1])
        src_nC, before_nC = (column[:, None].expand(shape) for column in (src_n, before_n))
        return src_nC, dst_C.expand(shape).contiguous(), before_nC.contiguous()
