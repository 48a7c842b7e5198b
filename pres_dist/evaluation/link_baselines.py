"""Link-prediction baselines, scored on the same events and negatives as the model.

Shapes: n events of a split, M negatives an event, C = 1 + M candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.evaluation.metrics import link_metrics, reciprocal_ranks
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.records import Metrics
from pres_dist.sampling.event_groups import EventGroups, PairKeys
from pres_dist.sampling.event_log import RECENT_EVENTS
from pres_dist.sampling.negatives import Negatives

_CELLS = 1 << 19
"""Number of scores computed at a time; bounds the memory use."""


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


def candidates_of(
    tables: EventTables, events_n: Tensor, negatives_nM: Tensor, duration: int
) -> Candidates:
    """Return the candidates of events; `duration` is the length of the window in stream time."""
    src_n, dst_n, t_n = (column[events_n] for column in (tables.src_E, tables.dst_E, tables.t_E))
    dst = torch.cat([dst_n[:, None], negatives_nM], dim=1)
    before_n = torch.searchsorted(tables.t_E, t_n)
    # Times may lie near the smallest int64, where the window's start would wrap around.
    never = torch.iinfo(torch.int64).min
    start_n = torch.where(t_n < never + duration, never, t_n - duration)
    window_n = torch.searchsorted(tables.t_E, start_n)
    src, before, window = (row[:, None].expand_as(dst) for row in (src_n, before_n, window_n))
    return Candidates(src, dst, before, window)


class EdgeBank:
    """EdgeBank: scores 1 for a pair with an earlier event, and 0 for others.

    There is one bank with unlimited memory and one with a time window. Pairs are directed, as in
    the paper (Poursafaei et al., NeurIPS 2022). For a stream that is not bipartite there is also
    an undirected bank, since there "b answers a" is good evidence for "a answers b".

    Args:
        stream: the stream; the bank holds all events earlier than a query.
        tables: their columns.
    """

    def __init__(self, stream: EventStream, tables: EventTables) -> None:
        self._keys = PairKeys(stream, tables.src_E, tables.dst_E)
        self._ordered = EventGroups.of(self._keys.ordered(tables.src_E, tables.dst_E))
        self._unordered: EventGroups | None = None
        if not stream.bipartite:
            self._unordered = EventGroups.of(self._keys.unordered(tables.src_E, tables.dst_E))

    def scores(self, candidates: Candidates) -> dict[str, Tensor]:
        """Return [n, C] scores of 0 or 1 by the name of the bank."""
        src, dst, before = candidates.src, candidates.dst, candidates.before
        pair = self._keys.ordered(src, dst)
        ever, lately = self._ordered.counts(pair, before, None, candidates.window)
        scores = {"EdgeBank": ever > 0, "EdgeBank, time window": lately > 0}
        if self._unordered is not None:
            (met,) = self._unordered.counts(self._keys.unordered(src, dst), before, None)
            scores["EdgeBank, either direction"] = met > 0
        return {name: score.long() for name, score in scores.items()}


class Popularity:
    """Popularity: scores a destination by its earlier events, regardless of the source.

    There is one score for all earlier events, one for those in EdgeBank's time window, and one for
    those among the last 1,000 events of the stream.
    """

    def __init__(self, tables: EventTables) -> None:
        self._destinations = EventGroups.of(tables.dst_E)

    def scores(self, candidates: Candidates) -> dict[str, Tensor]:
        """Return [n, C] counts by the name of the window."""
        before = candidates.before
        recent = (before - RECENT_EVENTS).clamp(min=0)
        counts = self._destinations.counts(candidates.dst, before, None, candidates.window, recent)
        recently = f"most popular, last {RECENT_EVENTS:,}"
        names = ("most popular", "most popular, time window", recently)
        return dict(zip(names, counts, strict=True))


class LinkBaselines:
    """EdgeBank and popularity baselines on splits of one stream.

    Args:
        stream: the events; a query reads all events before its own time, like the model's
            neighbor sampling in evaluation.
        tables: their columns.
        unseen_N: bool, nodes without a training event.
    """

    def __init__(self, stream: EventStream, tables: EventTables, unseen_N: np.ndarray) -> None:
        self._stream, self._tables, self._unseen_N = stream, tables, unseen_N
        self._baselines = (EdgeBank(stream, tables), Popularity(tables))

    def metrics(
        self, events: range, negatives: Negatives, num_negatives: int
    ) -> dict[str, Metrics]:
        """Return the metrics of each baseline by name; empty for a split without events.

        The time window is as long as the split, as in the EdgeBank paper.

        Args:
            events: events of the split.
            negatives: negatives that the model's events are ranked against.
            num_negatives: M.
        """
        if not len(events):
            return {}
        src, dst, t = self._stream.src, self._stream.dst, self._stream.t
        duration = int(t[events.stop - 1]) - int(t[events.start])
        # Of each chunk of events, only what the metrics need is kept.
        chunks: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        size = max(1, _CELLS // (1 + num_negatives))
        for start in range(events.start, events.stop, size):
            events_n = torch.arange(start, min(start + size, events.stop))
            scores = self._scores(events_n, negatives, num_negatives, duration)
            for name, score_nC in scores.items():
                # Copies: a view would keep all scores of the chunk alive.
                positive_n, negative_n = score_nC[:, 0].copy(), score_nC[:, 1].copy()
                reciprocal_n = reciprocal_ranks(score_nC[:, 0], score_nC[:, 1:])
                chunks.setdefault(name, []).append((positive_n, negative_n, reciprocal_n))
        part = slice(events.start, events.stop)
        unseen_n = self._unseen_N[src[part]] | self._unseen_N[dst[part]]
        metrics: dict[str, Metrics] = {}
        for name, columns in chunks.items():
            positive_n, negative_n, reciprocal_n = map(np.concatenate, zip(*columns, strict=True))
            metrics[name] = link_metrics(positive_n, negative_n, reciprocal_n, unseen_n)
        return metrics

    def _scores(
        self, events_n: Tensor, negatives: Negatives, num_negatives: int, duration: int
    ) -> dict[str, np.ndarray]:
        """Return the [n, C] scores of some events by baseline."""
        events_n = events_n.to(self._tables.device)
        src_n, dst_n = self._tables.src_E[events_n], self._tables.dst_E[events_n]
        negatives_nM = negatives.sample(src_n, dst_n, events_n, num_negatives, epoch=0)
        missing_nM = negatives.missing(events_n, num_negatives)
        candidates = candidates_of(self._tables, events_n, negatives_nM, duration)
        scores = {}
        for baseline in self._baselines:
            for name, score_nC in baseline.scores(candidates).items():
                if missing_nM is not None:  # ranked below everything
                    score_nC[:, 1:][missing_nM] = -1
                scores[name] = score_nC.cpu().numpy()
        return scores
