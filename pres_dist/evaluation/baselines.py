"""Link-prediction baselines, scored on the same events and negatives as the model.

Shapes: n events of a split, M negatives an event, C = 1 + M candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.evaluation.candidates import Baseline, candidates_of
from pres_dist.evaluation.edgebank import EdgeBank
from pres_dist.evaluation.metrics import Metrics, link_metrics, reciprocal_ranks
from pres_dist.evaluation.popularity import Popularity
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.negatives import Negatives

_CELLS = 1 << 19
"""Number of scores computed at a time; bounds the memory use."""


class Baselines:
    """EdgeBank and popularity baselines on splits of one stream.

    Args:
        stream: the events; a query reads all events before its own time, like the model's
            neighbor sampling in evaluation.
        tables: their columns.
        unseen_N: bool, nodes without a training event.
    """

    def __init__(self, stream: EventStream, tables: EventTables, unseen_N: np.ndarray) -> None:
        self._stream, self._tables, self._unseen_N = stream, tables, unseen_N
        self._baselines: list[Baseline] = [EdgeBank(stream, tables), Popularity(tables)]

    def metrics(self, events: range, negatives: Negatives, num_negatives: int) -> Metrics:
        """Return the metrics of each baseline by name; empty for a split without events.

        The time window is as long as the split, as in the EdgeBank paper.

        Args:
            events: events of the split.
            negatives: negatives that the model's events are ranked against.
            num_negatives: M.
        """
        if not len(events):
            return {}
        t = self._stream.t
        duration = int(t[events.stop - 1]) - int(t[events.start])
        scored: dict[str, list[_Scored]] = {}
        for chunk_n in _chunks(events, num_negatives):
            for name, score_nC in self._scores(chunk_n, negatives, num_negatives, duration):
                scored.setdefault(name, []).append(_Scored.of(score_nC))
        part = slice(events.start, events.stop)
        unseen_n = self._unseen_N[self._stream.src[part]] | self._unseen_N[self._stream.dst[part]]
        return {name: _joined(parts, unseen_n) for name, parts in scored.items()}

    def _scores(
        self, events_n: Tensor, negatives: Negatives, num_negatives: int, duration: int
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each baseline's name and its [n, C] scores of a few events."""
        events_n = events_n.to(self._tables.device)
        src_n, dst_n = self._tables.src_E[events_n], self._tables.dst_E[events_n]
        negatives_nM = negatives.sample(src_n, dst_n, events_n, num_negatives, epoch=0)
        missing_nM = negatives.missing(events_n, num_negatives)
        candidates = candidates_of(self._tables, events_n, negatives_nM, duration)
        for baseline in self._baselines:
            for name, score_nC in baseline.scores(candidates).items():
                if missing_nM is not None:  # ranked below everything
                    score_nC[:, 1:][missing_nM] = -1
                yield name, score_nC.cpu().numpy()


@dataclass(frozen=True)
class _Scored:
    """The values of [n, C] scores that the metrics need."""

    positive_n: np.ndarray
    negative_n: np.ndarray
    reciprocal_n: np.ndarray

    @classmethod
    def of(cls, score_nC: np.ndarray) -> _Scored:
        ranks = reciprocal_ranks(score_nC[:, 0], score_nC[:, 1:])
        return cls(score_nC[:, 0].copy(), score_nC[:, 1].copy(), ranks)


def _joined(parts: list[_Scored], unseen_n: np.ndarray) -> Metrics:
    return link_metrics(
        np.concatenate([part.positive_n for part in parts]),
        np.concatenate([part.negative_n for part in parts]),
        np.concatenate([part.reciprocal_n for part in parts]),
        unseen_n,
    )


def _chunks(events: range, num_negatives: int) -> Iterator[Tensor]:
    size = max(1, _CELLS // (1 + num_negatives))
    for start in range(events.start, events.stop, size):
        yield torch.arange(start, min(start + size, events.stop))
