"""How good recommendations are: each test event's destination ranked among all destinations.

Shapes: n events, C destinations, A embedding size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.evaluation.metrics import hits, reciprocal_ranks
from pres_dist.events.stream import EventStream
from pres_dist.events.tables import EventTables
from pres_dist.sampling.event_groups import EventGroups, PairKeys
from pres_dist.sampling.negatives import destinations_of
from pres_dist.step.batches import TemporalBatch
from pres_dist.use.live import LiveRun, Report, quiet
from pres_dist.use.recommend import all_logits

TOP = 10
_CELLS = 1 << 19
"""Scores of baselines that are computed at a time: what bounds the memory."""

Ranks = dict[str, tuple[np.ndarray, np.ndarray]]
"""[n] hits and [n] reciprocal ranks, by whose they are."""


def evaluate_ranking(
    live: LiveRun,
    max_events: int | None = None,
    batch_size: int | None = None,
    report: Report = quiet,
) -> dict[str, Any]:
    """hit@10 and MRR of the model and of baselines over the test part.

    The destination of an event is ranked among all destinations of the stream, whether
    the source has met them before or not. Memory is that from before the temporal batch.
    Destinations are embedded once a batch, all at the time of its first event, sources at
    the time of their own event. Baselines look at all events before the event's own time,
    and so are never a batch behind. With a `batch_size` of 1 a batch is one time stamp,
    and nothing is behind.

    Args:
        live: the run.
        max_events: rank about so many events, in temporal batches spread evenly over the
            test part; all when None.
        batch_size: events of a temporal batch; that of evaluation when None.
        report: told how many events are swept over.

    Returns:
        num_events, num_destinations, batch_size, seconds, and `ranked`: for the model and
        each baseline hit@10 and MRR of all events, and of those whose pair is new.
    """
    live.require_links()
    started = time.perf_counter()
    parts, split = live.parts, live.parts.data.split
    if not len(split.test):
        raise DataError(f"{live.stream.name}: has no test events to rank")
    size = batch_size or live.config.evaluation.batch_size
    sweep = parts.evaluation_sweep(split.test, size)
    destinations = destinations_of(live.stream, range(split.num_events)).to(parts.device)
    baselines = _Baselines(live.stream, live.step.tables)
    live.move_to(split.validation_end)
    ranked: list[Ranks] = []
    is_new: list[np.ndarray] = []
    every = 1 if max_events is None else -(-len(split.test) // max_events)
    for number, batch in enumerate(sweep.batches(live.step.tables)):
        if number % every == 0:
            model = _ranks(_model_scores(live, batch, destinations), batch, destinations)
            ranked.append({live.config.model.kind: model, **baselines.ranks(batch, destinations)})
            is_new.append(baselines.is_new(batch))
        live.take_in(batch)
        done = sweep.events_before(number + 1)
        report(done, done, len(split.test))
    return {
        "num_events": sum(len(part) for part in is_new),
        "num_destinations": destinations.numel(),
        "batch_size": size,
        "ranked": _metrics(ranked, np.concatenate(is_new)),
        "seconds": time.perf_counter() - started,
    }


def _model_scores(live: LiveRun, batch: TemporalBatch, destinations: Tensor) -> Tensor:
    """[n, C] logits of the model."""
    now = int(batch.t_B[0])
    sources = live.embed(batch.src_B, batch.t_B, now)
    candidates = live.embed(destinations, torch.full_like(destinations, now), now)
    return all_logits(live.parts.model, sources, candidates)


def _ranks(
    score_nC: Tensor, batch: TemporalBatch, destinations: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Hits and reciprocal ranks of the true destinations."""
    true_n = torch.searchsorted(destinations, batch.dst_B)[:, None]
    positive_n = score_nC.gather(1, true_n)[:, 0].double().cpu().numpy()
    others_nC = score_nC.double().scatter(1, true_n, -torch.inf).cpu().numpy()
    return hits(positive_n, others_nC, TOP), reciprocal_ranks(positive_n, others_nC)


class _Baselines:
    """What counts earlier events: popularity, and the last destinations of a source.

    Args:
        stream: all events of it that are earlier than a query are seen.
        tables: their columns.
    """

    def __init__(self, stream: EventStream, tables: EventTables) -> None:
        self._tables, self._num_events = tables, stream.num_events
        self._keys = PairKeys(stream, tables.src_E, tables.dst_E)
        self._pairs = EventGroups(self._keys.ordered(tables.src_E, tables.dst_E))
        self._destinations = EventGroups(tables.dst_E)

    def ranks(self, batch: TemporalBatch, destinations: Tensor) -> Ranks:
        """Ranks of the events by each baseline."""
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        size = max(1, _CELLS // destinations.numel())
        for start in range(0, batch.num_events, size):
            part = batch.part(slice(start, start + size))
            for name, score_nC in self._scores(part, destinations):
                found.setdefault(name, []).append(_ranks(score_nC, part, destinations))
        return {name: _joined(parts) for name, parts in found.items()}

    def is_new(self, batch: TemporalBatch) -> np.ndarray:
        """[n] bool: the pair has no earlier event."""
        latest_n = self._pairs.latest(
            self._keys.ordered(batch.src_B, batch.dst_B), self._before(batch)
        )
        new: np.ndarray = (latest_n < 0).cpu().numpy()
        return new

    def _before(self, batch: TemporalBatch) -> Tensor:
        return torch.searchsorted(self._tables.t_E, batch.t_B)

    def _scores(self, batch: TemporalBatch, destinations: Tensor) -> Iterator[tuple[str, Tensor]]:
        """[n, C] scores by the name of the baseline."""
        shape = (batch.num_events, destinations.numel())
        dst_nC = destinations.expand(shape)
        before_nC = self._before(batch)[:, None].expand(shape).contiguous()
        (count_nC,) = self._destinations.counts(dst_nC, before_nC)
        pair_nC = self._keys.ordered(batch.src_B[:, None].expand(shape), dst_nC)
        latest_nC = self._pairs.latest(pair_nC, before_nC)
        yield "most popular", count_nC
        yield "last destinations", latest_nC
        # A destination's count is below the number of events, and so below any that was met.
        both_nC = torch.where(latest_nC >= 0, self._num_events + latest_nC, count_nC)
        yield "last destinations, then most popular", both_nC


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    hit, reciprocal = (np.concatenate(column) for column in zip(*parts, strict=True))
    return hit, reciprocal


def _metrics(ranked: list[Ranks], new_n: np.ndarray) -> dict[str, dict[str, Any]]:
    """hit@10 and MRR by name; of all events, and of those whose pair is new."""
    metrics = {}
    for name in ranked[0]:
        hit_n, reciprocal_n = _joined([part[name] for part in ranked])
        metrics[name] = {
            **_means(hit_n, reciprocal_n),
            "new_pairs": {**_means(hit_n[new_n], reciprocal_n[new_n])},
        }
    return metrics


def _means(hit_n: np.ndarray, reciprocal_n: np.ndarray) -> dict[str, Any]:
    if not hit_n.size:
        return {"num_events": 0}
    return {
        "num_events": int(hit_n.size),
        f"hit@{TOP}": float(hit_n.mean()),
        "mrr": float(reciprocal_n.mean()),
    }
