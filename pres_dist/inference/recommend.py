"""Recommendation of the most likely destinations of sources.

Shapes: S sources, C candidates, A embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.raw_ids import RawId
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pairs import all_logits
from pres_dist.inference.walker import MemoryWalker, Report, quiet
from pres_dist.step.history import Queries

_CELLS = 1 << 20
"""Most scores that are computed at once, which bounds memory use."""


@dataclass(frozen=True)
class Recommendation:
    """Destination recommended to a source.

    Attributes:
        src, dst: the user's own ids.
        rank: rank from 1, the most likely first.
        probability: probability of a link (docs/guides/use.md).
        events: number of earlier events between the two.
    """

    src: str | int
    rank: int
    dst: str | int
    probability: float
    events: int


def recommend(
    live: LiveRun,
    sources: Tensor,
    top: int,
    t: int,
    exclude_seen: bool = False,
    report: Report = quiet,
) -> Iterator[Recommendation]:
    """Yield the top destinations of each source at a time, source by source.

    Candidates are the nodes with an event before that time: the destinations if the stream is
    bipartite, otherwise all nodes except the source itself.

    Args:
        live: the run.
        sources: [S] int64 nodes.
        top: maximum number of destinations per source; fewer if there are fewer candidates.
        t: events strictly before it are seen.
        exclude_seen: exclude destinations that the source has met before.
        report: progress callback, first over events and then over sources.

    Raises:
        ConfigError: the run has not learned to score links.
        DataError: no node has an event before the time.
    """
    live.require_links()
    ranker = Ranker(live, live.stream.raw_ids)
    event = live.first_event_at(t)
    live.move_to(event, report)
    known = live.known_nodes(event)
    candidates_C = known[known >= (live.stream.num_sources or 0)]
    if not candidates_C.numel():
        raise DataError(f"{live.stream.name}: no node has an event before that time")
    candidates = live.query(candidates_C, torch.full_like(candidates_C, t), t)
    done = 0
    for part in sources.to(live.device).split(max(1, _CELLS // candidates_C.numel())):
        for best in ranker.best(part, candidates, t, top, exclude_seen):
            yield from best
        done += part.numel()
        report(done, done, sources.numel())


class Ranker:
    """Ranking of candidates for sources, from memory that was moved to the time of the query.

    Args:
        walker: walker over the events.
        raw_ids: returns the user's own ids of nodes.
    """

    def __init__(
        self,
        walker: MemoryWalker,
        raw_ids: Callable[[Sequence[int]], Iterable[RawId | np.integer]],
    ) -> None:
        self._walker, self._raw_ids = walker, raw_ids

    def best(
        self, sources_S: Tensor, candidates: Queries, t: int, top: int, exclude_seen: bool
    ) -> Iterator[list[Recommendation]]:
        """Yield the best candidates of each source, best first, without the source itself.

        Args:
            sources_S: int64 nodes.
            candidates: embedded candidates.
            t: time of the memory.
            top: maximum number of candidates per source.
            exclude_seen: exclude candidates that the source has met before.
        """
        walker, candidates_C = self._walker, candidates.nodes_Q
        event = walker.first_event_at(t)
        sources = walker.query(sources_S, torch.full_like(sources_S, t), t)
        logits_SC = all_logits(walker.pipeline, sources, candidates)
        for node, logits_C in zip(sources_S.tolist(), logits_SC, strict=True):
            met, times_met = walker.partners(node, event)
            hidden_C = candidates_C == node
            if exclude_seen:
                hidden_C |= torch.isin(candidates_C, met)
            # topk also returns hidden candidates if fewer than `top` are left.
            shown_C = logits_C.masked_fill(hidden_C, -torch.inf)
            scores, places = shown_C.topk(min(top, shown_C.numel()))
            best = places[scores > -torch.inf]
            nodes = candidates_C[best].tolist()
            ids = self._raw_ids([node, *nodes])
            src, *others = (raw if isinstance(raw, str) else int(raw) for raw in ids)
            events = dict(zip(met.tolist(), times_met.tolist(), strict=True))
            ranked = zip(nodes, others, torch.sigmoid(logits_C[best]).tolist(), strict=True)
            yield [
                Recommendation(src, rank, dst, probability, events.get(other, 0))
                for rank, (other, dst, probability) in enumerate(ranked, 1)
            ]
