"""Logits of sources with many candidates.

Shapes: S sources, C candidates, A embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.step.history import Queries
from pres_dist.step.pipeline import BatchPipeline

_NUMBERS = 1 << 24
"""Most hidden values of the decoder at once, which bounds memory use."""
_PAIRS = 1 << 15
"""Most pairs that are read from the event log at once, which bounds memory use."""


@torch.no_grad()
def all_logits(pipeline: BatchPipeline, sources: Queries, candidates: Queries) -> Tensor:
    """Return [S, C] logits of all sources with all candidates, embedded at the source's time."""
    if pipeline.log is not None:
        return _from_log(pipeline, sources, candidates)
    sources_SA, candidates_CA = sources.embedded_QA, candidates.embedded_QA
    rows = max(1, _NUMBERS // max(candidates_CA.numel(), 1))
    parts = [pipeline.model.score(part, candidates_CA[None]) for part in sources_SA.split(rows)]
    return torch.cat(parts).float()


def _from_log(pipeline: BatchPipeline, sources: Queries, candidates: Queries) -> Tensor:
    """Return `all_logits` for a decoder that reads the event log, one block of pairs at a time."""
    place_S, place_C = (
        torch.arange(len(queries), device=queries.nodes_Q.device)
        for queries in (sources, candidates)
    )
    rows = max(1, _PAIRS // max(len(candidates), 1))
    blocks = []
    for some in place_S.split(rows):
        own = sources.at(some)
        parts = [
            pipeline.score(own, candidates, part.expand(len(own), -1))
            for part in place_C.split(_PAIRS)
        ]
        blocks.append(torch.cat(parts, dim=1))
    return torch.cat(blocks)
