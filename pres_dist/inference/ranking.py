"""Rank the true destination of test events with models and baselines.

Candidates are all destinations of the stream if there are few; otherwise, the true destination and
100 random and 100 historical negatives. Every event is ranked at its own time: models and baselines
read all events strictly before it.

Shapes: n events, C candidates.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import tee
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.evaluation.metrics import hits, reciprocal_ranks
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pairs import placed_logits
from pres_dist.inference.sharing import Alone, Share
from pres_dist.inference.walker import Report, quiet
from pres_dist.sampling.event_groups import EventGroups, PairKeys
from pres_dist.sampling.event_log import RECENT_EVENTS, first_in_row
from pres_dist.sampling.negatives import NegativeSampler, destinations_of
from pres_dist.step.batches import TemporalBatch, batch_of

TOP = 10
MOST_DESTINATIONS = 5000
"""Largest number of destinations for which all of them are ranked."""
NEGATIVES = 100
"""Number of negatives of each kind if not all destinations are ranked."""
MAX_EVENTS = 2000


Ranking = TypedDict("Ranking", {"hit@10": float, "mrr": float})


class ModelRanking(Ranking):
    """Means over all events, and over events whose pair is new; empty without any."""

    new_pairs: Ranking | dict[str, float]


class RunRanking(TypedDict):
    """Ranks of the destinations of a run's test events, by model or baseline."""

    run: str
    stream: str
    model: str
    num_events: int
    num_new: int
    candidates: str
    ranked: dict[str, ModelRanking]
    seconds: float


@dataclass(frozen=True)
class Candidates:
    """Candidate destinations of some events.

    Attributes:
        nodes_nC: int64 nodes, the true destination first.
        hidden_nC: bool, True for entries to ignore: repetitions of a node in its row.
    """

    nodes_nC: Tensor
    hidden_nC: Tensor


class CandidateSets:
    """Sampler of the candidates of events.

    Args:
        live: the run to rank with.
    """

    def __init__(self, live: LiveRun) -> None:
        split, adjacency = live.parts.data.split, live.pipeline.sampler.adjacency
        everything = range(split.num_events)
        self._destinations = destinations_of(live.stream, everything).to(live.device)
        self._samplers: list[NegativeSampler] = []
        if len(self._destinations) > MOST_DESTINATIONS:
            seed = live.config.evaluation.seed
            stream, listed = live.stream, self._destinations
            self._samplers = [
                NegativeSampler("random", stream, listed, adjacency, split.train_end, seed),
                NegativeSampler("historical", stream, listed, adjacency, split.train_end, seed),
            ]

    def __str__(self) -> str:
        if self._samplers:
            return f"{NEGATIVES} random and {NEGATIVES} historical destinations"
        return f"all {len(self._destinations):,} destinations"

    def of(self, batch: TemporalBatch) -> Candidates:
        """Return the candidates of some events."""
        others = [
            sampler.sample(batch.src_B, batch.dst_B, batch.events_B, NEGATIVES, epoch=0)
            for sampler in self._samplers
        ] or [self._destinations.expand(batch.num_events, -1)]
        nodes_nC = torch.cat([batch.dst_B[:, None], *others], dim=1)
        return Candidates(nodes_nC, ~first_in_row(nodes_nC))  # so never is the true one hidden


class Baselines:
    """Scores of candidates that no model has learned, from the events before a given one."""

    def __init__(self, live: LiveRun) -> None:
        src_E, dst_E = live.pipeline.tables.src_E, live.pipeline.tables.dst_E
        self._keys = PairKeys(live.stream, src_E, dst_E)
        self._pairs = EventGroups.of(self._keys.ordered(src_E, dst_E))
        self._destinations = EventGroups.of(dst_E)

    def scores(self, event: int, src_n: Tensor, dst_nC: Tensor) -> dict[str, Tensor]:
        """Return [n, C] scores by the name of the baseline.

        Args:
            event: id of the first event that is not read.
            src_n: sources.
            dst_nC: candidate destinations of each.
        """
        before_nC = torch.full_like(dst_nC, event)
        recent_nC = (before_nC - RECENT_EVENTS).clamp(min=0)
        # -1 for a destination that the source has not met.
        _, latest_nC = self._pairs.last(self._keys.ordered(src_n[:, None], dst_nC), before_nC)
        popular_nC, lately_nC = self._destinations.counts(dst_nC, before_nC, None, recent_nC)
        # A count is at most the number of events, so destinations that were met rank above all
        # others.
        both_nC = torch.where(latest_nC >= 0, event + latest_nC, popular_nC)
        return {
            "EdgeBank": latest_nC >= 0,
            "most popular": popular_nC,
            "last destinations": latest_nC,
            "last destinations, then most popular": both_nC,
            f"most popular, last {RECENT_EVENTS:,}": lately_nC,
        }


@dataclass(frozen=True)
class EventsAt:
    """Task that scores the events of one time with their candidates.

    Attributes:
        events: [n] ids.
        nodes_nC: int64 candidates.
    """

    events: np.ndarray
    nodes_nC: np.ndarray

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        """Return [n, C] float32 logits, from memory of all events before the events' time."""
        batch = _batch(live, self.events)
        t = int(batch.t_B[0])
        live.move_to(live.first_event_at(t), report)
        nodes_nC = torch.from_numpy(self.nodes_nC).to(live.device)
        distinct, place_nC = nodes_nC.unique(return_inverse=True)  # each is embedded once
        candidates = live.query(distinct, torch.full_like(distinct, t), t)
        sources = live.query(batch.src_B, batch.t_B, t)
        return placed_logits(live.pipeline, sources, candidates, place_nC).cpu().numpy()


def rank_run(
    live: LiveRun,
    max_events: int = MAX_EVENTS,
    report: Report = quiet,
    share: Share | None = None,
) -> RunRanking:
    """Rank the destinations of a run's test events.

    Args:
        live: the run.
        max_events: approximate number of events to rank, spread evenly over the test split; all if
            there are no more.
        report: called with the number of ranked events.
        share: computes the logits; the run itself when None.

    Raises:
        ConfigError: the run was not trained on link prediction.
        DataError: the run has no test events.
    """
    started = time.perf_counter()
    live.require_links()
    events = live.parts.data.split.test
    if not len(events):
        raise DataError(f"{live.stream.name}: has no test events to rank")
    chosen = np.arange(events.start, events.stop, -(-len(events) // max_events))
    t_n = np.asarray(live.stream.t[chosen])
    groups = np.split(chosen, np.flatnonzero(t_n[1:] != t_n[:-1]) + 1)
    sets, baselines = CandidateSets(live), Baselines(live)
    batches = (_batch(live, same) for same in groups)
    # Candidates wait for their logits: workers take tasks ahead of the results.
    asked, awaited = tee((batch, sets.of(batch)) for batch in batches)
    tasks = (
        EventsAt(batch.events_B.cpu().numpy(), candidates.nodes_nC.cpu().numpy())
        for batch, candidates in asked
    )
    name = f"{live.config.model.kind}, {live.config.model.decoder}"
    ranks: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    is_new: list[np.ndarray] = []
    done = 0
    for logits_nC, (batch, candidates) in zip((share or Alone(live))(tasks), awaited, strict=True):
        event = live.first_event_at(int(batch.t_B[0]))
        scores = {
            name: torch.from_numpy(logits_nC).to(live.device),
            **baselines.scores(event, batch.src_B, candidates.nodes_nC),
        }
        for what, score_nC in scores.items():
            lowest = score_nC.double().masked_fill(candidates.hidden_nC, -torch.inf).cpu().numpy()
            true_n, others_nC = lowest[:, 0], lowest[:, 1:]
            pair = hits(true_n, others_nC, TOP), reciprocal_ranks(true_n, others_nC)
            ranks.setdefault(what, []).append(pair)
        is_new.append((~scores["EdgeBank"][:, 0]).cpu().numpy())
        done += batch.num_events
        report(done, done, len(chosen))
    new_n = np.concatenate(is_new)
    return {
        "run": str(live.run_dir),
        "stream": live.stream.name,
        "model": name,
        "num_events": int(new_n.size),
        "num_new": int(new_n.sum()),
        "candidates": str(sets),
        "ranked": {what: _metrics(parts, new_n) for what, parts in ranks.items()},
        "seconds": time.perf_counter() - started,
    }


def _batch(live: LiveRun, events: np.ndarray) -> TemporalBatch:
    return batch_of(live.pipeline.tables, torch.from_numpy(events).to(live.device))


def _metrics(parts: list[tuple[np.ndarray, np.ndarray]], new_n: np.ndarray) -> ModelRanking:
    hit_n, reciprocal_n = (np.concatenate(column) for column in zip(*parts, strict=True))

    def of(events: np.ndarray) -> Ranking:
        return {"hit@10": float(hit_n[events].mean()), "mrr": float(reciprocal_n[events].mean())}

    everything = of(np.ones_like(new_n))
    return {**everything, "new_pairs": of(new_n) if new_n.any() else {}}
