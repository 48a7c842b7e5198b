"""Popularity baseline: ranks destinations by earlier events, regardless of the source."""

from __future__ import annotations

from torch import Tensor

from pres_dist.evaluation.candidates import Candidates
from pres_dist.events.tables import EventTables
from pres_dist.sampling.event_groups import EventGroups

RECENT_EVENTS = 1000
"""Length of the window of recent events, short enough to reflect current popularity."""


class Popularity:
    """Popularity: scores a destination by the number of its earlier events.

    There is one score for all earlier events, one for those in EdgeBank's time window, and
    one for those among the last 1,000 events of the stream.
    """

    def __init__(self, tables: EventTables) -> None:
        self._destinations = EventGroups(tables.dst_E)

    def scores(self, candidates: Candidates) -> dict[str, Tensor]:
        """Return [n, C] counts by the name of the window."""
        before = candidates.before
        recent = (before - RECENT_EVENTS).clamp(min=0)
        counts = self._destinations.counts(candidates.dst, before, candidates.window, recent)
        names = (
            "most popular",
            "most popular, time window",
            f"most popular, last {RECENT_EVENTS:,}",
        )
        return dict(zip(names, counts, strict=True))
