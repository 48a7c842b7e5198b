"""Recommendation of the most likely destinations of sources.

Shapes: S sources, C candidates, A embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.inference.blend import blend_of
from pres_dist.inference.history import History
from pres_dist.inference.live import LiveRun, Report, quiet
from pres_dist.inference.recommend_scores import all_logits

Order = Literal["blend", "model"]
"""Ranking by the model's logit blended with the past (`inference/blend.py`), or by the logit."""


def order_of(live: LiveRun, order: Order | None) -> Order:
    """Return the requested order, or the default for the run.

    The default is the blend, unless the decoder reads the event log: it then already uses the
    information that the blend would add.
    """
    if order is not None:
        return order
    return "blend" if live.pipeline.log is None else "model"


_CELLS = 1 << 20
"""Most scores that are computed at once, which bounds memory use."""


@dataclass(frozen=True)
class Recommendation:
    """Destination recommended to a source.

    Attributes:
        src, dst: the user's own ids.
        rank: rank from 1, the most likely first.
        probability: probability of a link by the model alone (docs/use.md).
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
    order: Order | None = None,
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
        order: score to rank candidates by; None chooses by run (`order_of`). The blend is
            learned when first needed.
        report: progress callback, first over events and then over sources.

    Raises:
        ConfigError: the run has not learned to score links, or has no validation events to
            learn the blend from.
        DataError: no node has an event before the time.
    """
    live.require_links()
    blend = blend_of(live, report) if order_of(live, order) == "blend" else None
    history = History(live.stream, live.pipeline.tables)
    event = live.first_event_at(t)
    live.move_to(event, report)
    candidates_C = _candidates(live, event)
    candidates = live.query(candidates_C, torch.full_like(candidates_C, t), t)
    done = 0
    for part in sources.to(live.device).split(max(1, _CELLS // candidates_C.numel())):
        asked = live.query(part, torch.full_like(part, t), t)
        logits_SC = scores_SC = all_logits(live.pipeline, asked, candidates)
        if blend is not None:
            before_S = torch.full_like(part, event)
            scores_SC = blend.scores(logits_SC, history.features(part, before_S, candidates_C))
        for node, logits_C, scores_C in zip(part.tolist(), logits_SC, scores_SC, strict=True):
            met = live.partners(node, event)
            hidden_C = candidates_C == node
            if exclude_seen:
                hidden_C |= torch.isin(candidates_C, met[0])
            best = best_places(scores_C.masked_fill(hidden_C, -torch.inf), top)
            yield from _named(live, node, candidates_C[best], logits_C[best], met)
        done += part.numel()
        report(done, done, sources.numel())


def _candidates(live: LiveRun, event: int) -> Tensor:
    known = live.known_nodes(event)
    if live.stream.num_sources is not None:
        known = known[known >= live.stream.num_sources]
    if not known.numel():
        raise DataError(f"{live.stream.name}: no node has an event before that time")
    return known


def best_places(scores_C: Tensor, top: int) -> Tensor:
    """Return the indices of the best candidates, best first, without those at minus infinity."""
    scores, places = scores_C.topk(min(top, scores_C.numel()))
    return places[scores > -torch.inf]


def _named(
    live: LiveRun, source: int, nodes: Tensor, logits: Tensor, met: tuple[Tensor, Tensor]
) -> Iterator[Recommendation]:
    """Yield the recommendations of a source with the user's own ids."""
    (src,) = live.stream.raw_ids([source])
    times_met = dict(zip(met[0].tolist(), met[1].tolist(), strict=True))
    names = live.stream.raw_ids(nodes.cpu().numpy())
    probabilities = torch.sigmoid(logits).tolist()
    ranked = zip(nodes.tolist(), names, probabilities, strict=True)
    for rank, (node, name, probability) in enumerate(ranked, 1):
        yield Recommendation(_plain(src), rank, _plain(name), probability, times_met.get(node, 0))


def _plain(raw: str | np.integer) -> str | int:
    """Return an id as a Python string or integer."""
    return raw if isinstance(raw, str) else int(raw)
