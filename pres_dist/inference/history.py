"""Features of candidate destinations from past events, and baselines.

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
"""Window of recent popularity: the last events of the stream, as in the popularity baseline."""


class History:
    """Counts of past events, for queries that see the events before a given event id.

    Args:
        stream: the events.
        tables: their columns.
    """

    def __init__(self, stream: EventStream, tables: EventTables) -> None:
        self._num_events = stream.num_events
        self._keys = PairKeys(stream, tables.src_E, tables.dst_E)
        self._pairs = EventGroups.of(self._keys.ordered(tables.src_E, tables.dst_E))
        self._destinations = EventGroups.of(tables.dst_E)

    def latest(self, src_n: Tensor, dst_n: Tensor, before_n: Tensor) -> Tensor:
        """Return the id of the last event from each source to its destination; -1 if none."""
        return self._pairs.last(self._keys.ordered(src_n, dst_n), before_n)[1]

    def features(self, src_n: Tensor, before_n: Tensor, dst_C: Tensor) -> Tensor:
        """Return [n, C, F] float32 features, in the order of `FEATURES`.

        The features are: 1 if the source has met the destination; 1 if the destination was its
        last one; 1 / rank of the destination among those that the source has met, the most
        recent first; and log(1 + count) of the events between the two, of all events of the
        destination, and of its events among the last `RECENT_EVENTS` of the stream.

        Args:
            src_n: sources.
            before_n: id of the first event that each source does not see.
            dst_C: [C] destinations for all sources, or [n, C] with those of each source.
        """
        src_nC, dst_nC, before_nC = self._all(src_n, before_n, dst_C)
        pair_nC = self._keys.ordered(src_nC, dst_nC)
        repeats_nC, latest_nC = self._pairs.last(pair_nC, before_nC)
        met_nC = latest_nC >= 0
        place_nC = latest_nC.argsort(1, descending=True).argsort(1)
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
        """Yield the name and the [n, C] scores of each baseline; none of them is learned."""
        src_nC, dst_nC, before_nC = self._all(src_n, before_n, dst_C)
        (count_nC,) = self._destinations.counts(dst_nC, before_nC)
        latest_nC = self.latest(src_nC, dst_nC, before_nC)
        yield "most popular", count_nC
        yield "last destinations", latest_nC
        # A count is at most the number of events, so destinations that were met rank above all
        # others.
        both_nC = torch.where(latest_nC >= 0, self._num_events + latest_nC, count_nC)
        yield "last destinations, then most popular", both_nC

    def _all(self, src_n: Tensor, before_n: Tensor, dst_C: Tensor) -> tuple[Tensor, ...]:
        """Return [n, C] sources, destinations and bounds.

        Each source is paired with every destination of [C], or with its own row of [n, C].
        """
        shape = (src_n.numel(), dst_C.shape[-1])
        src_nC, before_nC = (column[:, None].expand(shape) for column in (src_n, before_n))
        return src_nC, dst_C.expand(shape).contiguous(), before_nC.contiguous()
