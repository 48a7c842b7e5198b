"""Link probabilities of pairs of nodes, each at a time of its own.

Shapes: n pairs, S sources, C candidates, A embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.inference.live import LiveRun
from pres_dist.inference.sharing import Alone, Share
from pres_dist.inference.walker import MOST_QUERIES, MemoryWalker, Report, quiet
from pres_dist.step.history import Queries
from pres_dist.step.pipeline import BatchPipeline

_CHUNKS = 32
"""Most chunks per task; if each pair has its own time, that takes a fraction of a second."""
_HIDDEN_VALUES = 1 << 24
"""Most hidden values of the decoder at once, which bounds memory use."""
_LOG_PAIRS = 1 << 15
"""Most pairs that are read from the event log at once, which bounds memory use."""


@dataclass(frozen=True)
class Pairs:
    """Pairs to score.

    Attributes:
        src, dst: [n] int64 nodes.
        t: [n] int64 times.
    """

    src: np.ndarray
    dst: np.ndarray
    t: np.ndarray

    def __len__(self) -> int:
        return len(self.src)

    def at(self, rows: np.ndarray) -> Pairs:
        """Return the pairs of some rows."""
        return Pairs(self.src[rows], self.dst[rows], self.t[rows])


@dataclass(frozen=True)
class Chunk:
    """Pairs that are scored together, from the same memory.

    Attributes:
        pairs: the pairs.
        event: id of the first event that the memory has not seen.
        now: time of the memory.
    """

    pairs: Pairs
    event: int
    now: int


@dataclass(frozen=True)
class ChunksInOrder:
    """Task that scores chunks in the order of their times."""

    chunks: Sequence[Chunk]

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        """Return the [n] float32 probabilities of the pairs of all chunks."""
        probabilities = []
        for chunk in self.chunks:
            live.move_to(chunk.event, report)
            report = quiet
            logits = link_logits(live, chunk.pairs, chunk.now)
            probabilities.append(torch.sigmoid(logits).cpu().numpy())
        return np.concatenate(probabilities)


def score_pairs(
    live: LiveRun,
    pairs: Pairs,
    batched: bool = False,
    report: Report = quiet,
    share: Share | None = None,
) -> np.ndarray:
    """Return [n] float32 link probabilities, in the order of the pairs.

    A probability is the sigmoid of the decoder's logit. Pairs are scored in the order of their
    times, while the memory moves forward.

    Args:
        live: the run.
        pairs: pairs at times that pass `LiveRun.check_time`.
        batched: score in the temporal batches of evaluation, as for test metrics: the memory of
            a pair has seen the events before its batch, and its neighbors are from before its
            own time. Otherwise the memory too has seen every earlier event.
        report: progress callback, first over events and then over pairs.
        share: computes the probabilities; the run itself when None.

    Raises:
        ConfigError: the run has not learned to score links.
    """
    live.require_links()
    probability_n = np.empty(len(pairs), np.float32)
    # In order of time, memory only moves forward: going back means to start from the checkpoint.
    order = np.argsort(pairs.t, kind="stable")
    done = 0
    tasks = _tasks(live, pairs, order, batched)
    for part in (share or Alone(live))(tasks, report):
        probability_n[order[done : done + len(part)]] = part
        done += len(part)
        report(done, done, len(pairs))
    return probability_n


def _tasks(
    live: LiveRun, pairs: Pairs, order: np.ndarray, batched: bool
) -> Iterator[ChunksInOrder]:
    """Yield tasks with all pairs in the order of their times, a few chunks each."""
    chunks: list[Chunk] = []
    for rows, event, now in _groups(live, pairs, order, batched):
        for part in np.array_split(rows, -(-len(rows) // MOST_QUERIES)):
            chunks.append(Chunk(pairs.at(part), event, now))
            if len(chunks) == _CHUNKS or sum(len(chunk.pairs) for chunk in chunks) >= MOST_QUERIES:
                yield ChunksInOrder(chunks)
                chunks = []
    if chunks:
        yield ChunksInOrder(chunks)


def _groups(
    live: LiveRun, pairs: Pairs, order: np.ndarray, batched: bool
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield groups in time order: rows that read one memory, its first unseen event, its time."""
    if not len(order):
        return
    t_n = pairs.t[order]
    event_n = np.searchsorted(live.stream.t, t_n, side="left")
    if batched:
        distinct, place_n = np.unique(event_n, return_inverse=True)
        event_n = np.array([live.batch_start(int(event)) for event in distinct])[place_n]
    # Pairs of one time read the same memory; in batches, all pairs of a batch do, and the time of
    # that memory is the time of the batch's first event, as in evaluation.
    key_n = event_n if batched else t_n
    starts = np.flatnonzero(key_n[1:] != key_n[:-1]) + 1
    for first, rows in zip([0, *starts], np.split(order, starts), strict=True):
        event, now = int(event_n[first]), int(t_n[first])
        if batched and event < live.stream.num_events:
            now = int(live.stream.t[event])
        yield rows, event, now


def link_logits(walker: MemoryWalker, pairs: Pairs, now: int) -> Tensor:
    """Return the [n] logits of pairs; a node is embedded once for each of its times.

    Args:
        walker: memory that was moved to the point where the pairs read it.
        pairs: the pairs.
        now: time of the memory.
    """
    # Equal pairs of node and time share an embedding, and so its bits.
    ends = np.stack([np.concatenate([pairs.src, pairs.dst]), np.tile(pairs.t, 2)])
    distinct, place = np.unique(ends, axis=1, return_inverse=True)
    nodes, t = (torch.from_numpy(row.copy()).to(walker.device) for row in distinct)
    embedded = walker.query(nodes, t, now)
    source_n, destination_n = torch.from_numpy(place.ravel()).to(walker.device).split(len(pairs))
    return walker.pipeline.score(embedded.at(source_n), embedded, destination_n[:, None])[:, 0]


@torch.no_grad()
def all_logits(pipeline: BatchPipeline, sources: Queries, candidates: Queries) -> Tensor:
    """Return [S, C] logits of all sources with all candidates, embedded at the source's time."""
    sources_SA, candidates_CA = sources.embedded_QA, candidates.embedded_QA
    if pipeline.log is None:
        rows = max(1, _HIDDEN_VALUES // max(candidates_CA.numel(), 1))
        parts = [pipeline.model.score(part, candidates_CA[None]) for part in sources_SA.split(rows)]
        return torch.cat(parts).float()
    # A decoder that reads the event log looks up every pair.
    place_C = torch.arange(len(candidates), device=sources_SA.device)
    return placed_logits(pipeline, sources, candidates, place_C.expand(len(sources), -1))


def placed_logits(
    pipeline: BatchPipeline, sources: Queries, candidates: Queries, place_SC: Tensor
) -> Tensor:
    """Return the [S, C] logits of sources with candidates of their own, by blocks of pairs.

    Args:
        pipeline: pipeline that scores.
        sources: S sources.
        candidates: candidates, embedded at the times of their sources.
        place_SC: indices into the candidates.
    """
    blocks = []
    place_S = torch.arange(len(sources), device=place_SC.device)
    for rows_S in place_S.split(max(1, _LOG_PAIRS // max(place_SC.shape[1], 1))):
        own = sources.at(rows_S)
        columns = place_SC[rows_S].split(_LOG_PAIRS, dim=1)
        parts = [pipeline.score(own, candidates, place) for place in columns]
        blocks.append(torch.cat(parts, dim=1))
    return torch.cat(blocks)
