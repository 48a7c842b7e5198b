"""The most popular destination: whatever the source, the one with the most earlier events."""

from __future__ import annotations

from torch import Tensor

from pres_dist.evaluation.candidates import Candidates
from pres_dist.events.tables import EventTables
from pres_dist.sampling.event_groups import EventGroups

RECENT_EVENTS = 1000
"""What is popular now may have been unknown yesterday: a window short enough to show it."""


class Popularity:
    """Scores a destination by the number of its earlier events.

    By all of them, by those within the time window of EdgeBank, and by those among the
    last 1,000 events of the stream.
    """

    def __init__(self, tables: EventTables) -> None:
        self._destinations = EventGroups(tables.dst_E)

    def scores(self, candidates: Candidates) -> dict[str, Tensor]:
        """[n, C] counts by the name of the window."""
        before = candidates.before
        recent = (before - RECENT_EVENTS).clamp(min=0)
        counts = self._destinations.counts(candidates.dst, before, candidates.window, recent)
        names = (
            "most popular",
            "most popular, time window",
            f"most popular, last {RECENT_EVENTS:,}",
        )
        return dict(zip(names, counts, strict=True))
