"""The most likely destinations of sources.

Shapes: S sources, C candidates, A embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.model.tgn import TGN
from pres_dist.use.live import LiveRun, Report, quiet

_NUMBERS = 1 << 24
"""Hidden numbers of the decoder at a time: what bounds the memory."""
_SOURCES = 64
"""Sources that are ranked at a time."""


@dataclass(frozen=True)
class Recommendation:
    """A destination for a source.

    Attributes:
        src, dst: the user's own ids.
        rank: from 1, the most likely first.
        probability: of a link, among one random destination (docs/use.md).
        events: how often the two have met before.
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
    """The top destinations of each source at a time, source by source.

    Candidates are the nodes with an event before the time: destinations in a bipartite
    stream, and all but the source itself in another.

    Args:
        live: the run.
        sources: [S] int64 nodes.
        top: destinations of each; fewer where there are fewer candidates.
        t: events strictly before it are seen.
        exclude_seen: leave out whom the source has met before.
        report: told how far it is, first over events and then over sources.

    Raises:
        ConfigError: the run has not learnt to score links.
        DataError: nobody has an event before the time.
    """
    live.require_links()
    event = live.first_event_at(t)
    live.move_to(event, report)
    candidates_C = _candidates(live, event)
    embedded_CA = live.embed(candidates_C, torch.full_like(candidates_C, t), t)
    done = 0
    for part in sources.split(_SOURCES):
        embedded_SA = live.embed(part, torch.full_like(part, t), t)
        logits_SC = all_logits(live.parts.model, embedded_SA, embedded_CA)
        for node, logits_C in zip(part.tolist(), logits_SC, strict=True):
            met = live.partners(node, event)
            hidden_C = candidates_C == node
            if exclude_seen:
                hidden_C |= torch.isin(candidates_C, met[0])
            ranked = _best(candidates_C, logits_C.masked_fill(hidden_C, -torch.inf), top)
            yield from _named(live, node, *ranked, met)
        done += part.numel()
        report(done, done, sources.numel())


@torch.no_grad()
def all_logits(model: TGN, sources_SA: Tensor, candidates_CA: Tensor) -> Tensor:
    """[S, C] logits of every source with every candidate, each projected once a part."""
    rows = max(1, _NUMBERS // max(candidates_CA.numel(), 1))
    parts = [model.score(part, candidates_CA[None]) for part in sources_SA.split(rows)]
    return torch.cat(parts).float()


def _candidates(live: LiveRun, event: int) -> Tensor:
    known = live.known_nodes(event)
    if live.stream.num_sources is not None:
        known = known[known >= live.stream.num_sources]
    if not known.numel():
        raise DataError(f"{live.stream.name}: nobody has an event before that time")
    return known


def _best(candidates_C: Tensor, logits_C: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The best candidates, best first, and their logits; less those that are hidden."""
    logits, places = logits_C.topk(min(top, logits_C.numel()))
    shown = logits > -torch.inf
    return candidates_C[places[shown]], logits[shown]


def _named(
    live: LiveRun, source: int, nodes: Tensor, logits: Tensor, met: tuple[Tensor, Tensor]
) -> Iterator[Recommendation]:
    """Recommendations of a source under the user's ids."""
    (src,) = live.stream.raw_ids([source])
    times_met = dict(zip(met[0].tolist(), met[1].tolist(), strict=True))
    names = live.stream.raw_ids(nodes.cpu().numpy())
    probabilities = torch.sigmoid(logits).tolist()
    ranked = zip(nodes.tolist(), names, probabilities, strict=True)
    for rank, (node, name, probability) in enumerate(ranked, 1):
        yield Recommendation(_plain(src), rank, _plain(name), probability, times_met.get(node, 0))


def _plain(raw: str | np.integer) -> str | int:
    """An id as Python has it."""
    return raw if isinstance(raw, str) else int(raw)
