"""Evaluation of recommendations: rank each test event's destination among all destinations.

Shapes: n events, C destinations, A embedding size.
"""

from __future__ import annotations

import time
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.evaluation.metrics import hits, reciprocal_ranks
from pres_dist.inference.blend import NAMES, destinations_of_run, learn_blend, scored_events
from pres_dist.inference.history import History
from pres_dist.inference.live import LiveRun
from pres_dist.inference.sharing import Share
from pres_dist.inference.walker import Report, quiet

TOP = 10
MAX_EVENTS = 2000
Ranks = dict[str, tuple[np.ndarray, np.ndarray]]
"""[n] hits and [n] reciprocal ranks, by the name of the model or baseline."""


class Ranking(TypedDict):
    """Metrics of recommendations on the test split.

    Attributes:
        ranked: num_events, hit@10 and mrr by model or baseline, and of the events whose pair is
            new under `new_pairs`.
        blend: weights of the blend by name; None without validation events.
    """

    num_events: int
    num_destinations: int
    ranked: dict[str, dict[str, Any]]
    blend: dict[str, float] | None
    seconds: float


def evaluate_ranking(
    live: LiveRun,
    max_events: int = MAX_EVENTS,
    report: Report = quiet,
    share: Share | None = None,
) -> Ranking:
    """Return hit@10 and MRR of the model and of baselines over the test split.

    The destination of an event is ranked among all destinations of the stream, including those
    that the source has met before, at the event's own time. Model and baselines see every event
    before that time, as in `recommend`.

    Args:
        live: the run.
        max_events: approximate number of events to rank, spread evenly over the test split; if
            there are no more than that, all are ranked.
        report: progress callback that counts events, first those that the blend is learned from.
        share: scores the events; the run itself when None.

    Raises:
        ConfigError: the run has not learned to score links.
        DataError: the run has no test events.
    """
    live.require_links()
    started = time.perf_counter()
    split = live.parts.data.split
    if not len(split.test):
        raise DataError(f"{live.stream.name}: has no test events to rank")
    kind, destinations = str(live.config.model.kind), destinations_of_run(live)
    blend, alone = learn_blend(live, report, share) if len(split.validation) else (None, None)
    history = History(live)
    ranked: list[Ranks] = []
    is_new: list[np.ndarray] = []
    scored = scored_events(live, split.test, destinations, max_events, report, share)
    for batch, event, logits in scored:
        scores: dict[str, Tensor] = {kind: logits}
        past = history.before(event, batch.src_B, destinations)
        if blend is not None and alone is not None:
            features = past.features()
            scores |= {f"{kind} and the past": blend.scores(logits, features)}
            scores |= {"the past alone": alone.scores(logits, features)}
        scores |= past.baselines()
        true_n1 = torch.searchsorted(destinations, batch.dst_B)[:, None]
        ranked.append({name: _ranks(score, true_n1) for name, score in scores.items()})
        is_new.append((past.latest_nC.gather(1, true_n1)[:, 0] < 0).cpu().numpy())
    new_n = np.concatenate(is_new)
    metrics: dict[str, dict[str, Any]] = {}
    for name in ranked[0]:
        parts = zip(*(part[name] for part in ranked), strict=True)
        hit_n, reciprocal_n = (np.concatenate(part) for part in parts)
        metrics[name] = {
            **_means(hit_n, reciprocal_n),
            "new_pairs": _means(hit_n[new_n], reciprocal_n[new_n]),
        }
    return {
        "num_events": new_n.size,
        "num_destinations": destinations.numel(),
        "ranked": metrics,
        "blend": None if blend is None else dict(zip(NAMES, blend.weights, strict=True)),
        "seconds": time.perf_counter() - started,
    }


def _ranks(score_nC: Tensor, true_n1: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return hits and reciprocal ranks of the true destinations."""
    positive_n = score_nC.gather(1, true_n1)[:, 0].double().cpu().numpy()
    others_nC = score_nC.double().scatter(1, true_n1, -torch.inf).cpu().numpy()
    return hits(positive_n, others_nC, TOP), reciprocal_ranks(positive_n, others_nC)


def _means(hit_n: np.ndarray, reciprocal_n: np.ndarray) -> dict[str, Any]:
    if not hit_n.size:
        return {"num_events": 0}
    return {
        "num_events": int(hit_n.size),
        f"hit@{TOP}": float(hit_n.mean()),
        "mrr": float(reciprocal_n.mean()),
    }
