"""EdgeBank: a pair that has met will meet again (Poursafaei et al., NeurIPS 2022)."""

from __future__ import annotations

from torch import Tensor

from pres_dist.evaluation.candidates import Candidates
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.event_groups import EventGroups, PairKeys


class EdgeBank:
    """EdgeBank: scores 1 for a pair with an earlier event, and 0 for others.

    There is one bank with unlimited memory and one with a time window. Pairs are directed,
    as in the paper. For a stream that is not bipartite there is also an undirected bank,
    since there "b answers a" is good evidence for "a answers b".

    Args:
        stream: the stream; the bank holds all events earlier than a query.
        tables: their columns.
    """

    def __init__(self, stream: EventStream, tables: EventTables) -> None:
        self._keys = PairKeys(stream, tables.src_E, tables.dst_E)
        self._ordered = EventGroups(self._keys.ordered(tables.src_E, tables.dst_E))
        self._unordered: EventGroups | None = None
        if not stream.bipartite:
            self._unordered = EventGroups(self._keys.unordered(tables.src_E, tables.dst_E))

    def scores(self, candidates: Candidates) -> dict[str, Tensor]:
        """Return [n, C] scores of 0 or 1 by the name of the bank."""
        src, dst, before = candidates.src, candidates.dst, candidates.before
        pair = self._keys.ordered(src, dst)
        ever, lately = self._ordered.counts(pair, before, candidates.window)
        scores = {"EdgeBank": ever > 0, "EdgeBank, time window": lately > 0}
        if self._unordered is not None:
            (met,) = self._unordered.counts(self._keys.unordered(src, dst), before)
            scores["EdgeBank, either direction"] = met > 0
        return {name: score.long() for name, score in scores.items()}
