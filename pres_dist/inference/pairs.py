"""Link probabilities of pairs of nodes, each at a time of its own.

Shapes: n pairs, A embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pres_dist.inference.live import MOST_QUERIES, LiveRun, Report, quiet
from pres_dist.inference.sharing import Alone, Share
from pres_dist.step.compute import TemporalStep
from pres_dist.step.history import Queries

_CHUNKS = 32
"""Times of a task at most: of pairs that each have a time of their own, a fraction of a second."""


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
        """Some of them."""
        return Pairs(self.src[rows], self.dst[rows], self.t[rows])


@dataclass(frozen=True)
class Chunk:
    """Pairs that are scored together.

    Attributes:
        pairs: they read the same memory.
        event: the first that it has not seen.
        now: its time.
    """

    pairs: Pairs
    event: int
    now: int


@dataclass(frozen=True)
class ChunksInOrder:
    """Chunks one after the other in time, as a task."""

    chunks: Sequence[Chunk]

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        """[n] float32 probabilities of the pairs of all chunks."""
        probabilities = []
        for chunk in self.chunks:
            live.move_to(chunk.event, report)
            report = quiet
            logits = link_logits(live, chunk.pairs, np.arange(len(chunk.pairs)), chunk.now)
            probabilities.append(torch.sigmoid(logits).cpu().numpy())
        return np.concatenate(probabilities)


def score_pairs(
    live: LiveRun,
    pairs: Pairs,
    batched: bool = False,
    report: Report = quiet,
    share: Share | None = None,
) -> np.ndarray:
    """[n] float32 probabilities, sigmoid of the decoder's logit, in the order of the pairs.

    Pairs are taken in the order of their times, and the memory goes with them.

    Args:
        live: the run.
        pairs: at times that `LiveRun.check_time` lets pass.
        batched: score in the temporal batches of evaluation, as test metrics are: the
            memory of a pair is that from before its batch, neighbors are those before its
            own time. Without it the memory too has seen every earlier event.
        report: told how far it is, first over events and then over pairs.
        share: who computes them; the run itself when None.

    Raises:
        ConfigError: the run has not learned to score links.
    """
    live.require_links()
    probability_n = np.empty(len(pairs), np.float32)
    order = np.argsort(pairs.t, kind="stable")
    done = 0
    for part in (share or Alone(live))(_tasks(live, pairs, order, batched), report):
        probability_n[order[done : done + len(part)]] = part
        done += len(part)
        report(done, done, len(pairs))
    return probability_n


def _tasks(
    live: LiveRun, pairs: Pairs, order: np.ndarray, batched: bool
) -> Iterator[ChunksInOrder]:
    """All pairs in the order of their times, a few chunks a task."""
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
    """Rows that read the same memory, in the order of time; its first event unseen; its time."""
    if not len(order):
        return
    t_n = pairs.t[order]
    event_n = np.searchsorted(live.stream.t, t_n, side="left")
    if batched:
        distinct, place_n = np.unique(event_n, return_inverse=True)
        event_n = np.array([live.batch_start(int(event)) for event in distinct])[place_n]
    key_n = event_n if batched else t_n
    starts = np.flatnonzero(key_n[1:] != key_n[:-1]) + 1
    for first, rows in zip([0, *starts], np.split(order, starts), strict=True):
        event, now = int(event_n[first]), int(t_n[first])
        if batched and event < live.stream.num_events:
            now = int(live.stream.t[event])
        yield rows, event, now


class Embedder(Protocol):
    """Whoever has embeddings of nodes, as `LiveRun` has them."""

    @property
    def step(self) -> TemporalStep:
        """Scores them."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    def query(self, nodes: Tensor, t: Tensor, now: int) -> Queries:
        """Embed nodes [n] at times [n]."""


def link_logits(live: Embedder, pairs: Pairs, rows: np.ndarray, now: int) -> Tensor:
    """[n] logits of some pairs; a node is embedded once for each of its times.

    Args:
        live: whose memory has been brought to where they read it.
        pairs: all.
        rows: [n] which of them.
        now: time of the memory.
    """
    device = live.device
    num = len(rows)
    ends = np.stack([np.concatenate([pairs.src[rows], pairs.dst[rows]]), np.tile(pairs.t[rows], 2)])
    distinct, place = np.unique(ends, axis=1, return_inverse=True)
    nodes, t = (torch.from_numpy(row.copy()).to(device) for row in distinct)
    embedded = live.query(nodes, t, now)
    source_n, destination_n = torch.from_numpy(place.ravel()).to(device).split(num)
    return live.step.score(embedded.at(source_n), embedded, destination_n[:, None])[:, 0]
