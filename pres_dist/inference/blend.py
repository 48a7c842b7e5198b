"""Blend of the model's logit with counts of past events, by weights that are learned once.

A link decoder trained against random negatives is good at rejecting non-links. It may be less
good at ranking which of a source's usual destinations comes next; counts of the source's
recent events complement it there. The blend is a linear score of both,

    score(u, v, t) = w_0 logit(u, v, t) + sum_f w_f feature_f(u, v, t),

whose weights maximize the likelihood of the true destinations of the validation split, each
among all destinations (a conditional logit; McFadden, 1974). No test event is read.

Shapes: n events, C destinations, F features of the past.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pres_dist.errors import ConfigError
from pres_dist.files import keep, read_regular
from pres_dist.inference.history import FEATURES, History
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pairs import all_logits
from pres_dist.inference.sharing import Alone, Share
from pres_dist.inference.walker import Report, quiet
from pres_dist.sampling.negatives import destinations_of
from pres_dist.step.batches import TemporalBatch, batch_of

BLEND = "blend.json"
NAMES = ("logit", *FEATURES)
FIT_EVENTS = 1000
_FIT_CELLS = 1 << 21
"""Most scores that weights are learned from, except that at least 100 events are used."""


@dataclass(frozen=True)
class Blend:
    """Weights of the blend, in the order of `NAMES`.

    Attributes:
        weights: [1 + F].
        checkpoint: name of the checkpoint whose logits the weights were learned for.
        num_events: validation events that the weights were learned from.
    """

    weights: tuple[float, ...]
    checkpoint: str
    num_events: int

    def scores(self, logit_nC: Tensor, features_nCF: Tensor) -> Tensor:
        """Return the [n, C] blended scores."""
        weights = torch.tensor(self.weights, device=logit_nC.device)
        return logit_nC * weights[0] + features_nCF @ weights[1:]


def blend_of(live: LiveRun, report: Report = quiet) -> Blend:
    """Return the run's blend: read it from the run folder, or learn it and try to save it there.

    Raises:
        ConfigError: there are no validation events to learn the blend from.
    """
    file = live.run_dir / BLEND
    try:
        saved: dict[str, Any] = json.loads(read_regular(file))
        if saved["sha256"] == live.digest and list(saved["weights"]) == list(NAMES):
            weights = tuple(float(weight) for weight in saved["weights"].values())
            return Blend(weights, live.checkpoint, int(saved["num_events"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    blend, _ = learn_blend(live, report)
    kept = {
        "checkpoint": blend.checkpoint,
        "sha256": live.digest,
        "num_events": blend.num_events,
        "weights": dict(zip(NAMES, blend.weights, strict=True)),
    }
    keep(file, json.dumps(kept, indent=1) + "\n")
    return blend


def learn_blend(
    live: LiveRun, report: Report = quiet, share: Share | None = None
) -> tuple[Blend, Blend]:
    """Learn the blend on the validation split, and for comparison a blend without the model.

    Args:
        live: the run.
        report: progress callback that counts scored events.
        share: computes the scores; the run itself when None.

    Returns:
        the blend, and a blend of the past features alone, whose logit has weight 0.

    Raises:
        ConfigError: there are no validation events to learn from.
    """
    events = live.parts.data.split.validation
    if not len(events):
        raise ConfigError(
            "data.validation_share: recommendations blend the model with the past by weights "
            "learned on the validation split, which this run has not: --order model does without"
        )
    destinations = destinations_of_run(live)
    history = History(live)
    wanted = min(FIT_EVENTS, max(100, _FIT_CELLS // destinations.numel()))
    inputs, true = [], []
    scored = scored_events(live, events, destinations, wanted, report, share)
    for batch, event, logit_nC in scored:
        past = history.before(event, batch.src_B, destinations)
        inputs.append(torch.cat([logit_nC[:, :, None], past.features()], dim=2))
        true.append(torch.searchsorted(destinations, batch.dst_B))
    # Not on training events: the model has learned them, so its logits are better there than they
    # are on new events, and the blend would trust them too much.
    inputs_nCF, true_n = torch.cat(inputs), torch.cat(true)
    both = _fit(inputs_nCF, true_n)
    alone = torch.cat([torch.zeros(1, device=both.device), _fit(inputs_nCF[:, :, 1:], true_n)])
    num = true_n.numel()
    blend, past_alone = (
        Blend(tuple(weights.tolist()), live.checkpoint, num) for weights in (both, alone)
    )
    return blend, past_alone


@dataclass(frozen=True)
class EventsAt:
    """Task that scores the events of one time with all destinations.

    Attributes:
        events: [n] ids.
        destinations: [C] int64 nodes.
    """

    events: np.ndarray
    destinations: np.ndarray

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        """Return [n, C] float32 logits, from memory of all events before the events' time."""
        batch = _batch(live, self.events)
        t = int(batch.t_B[0])
        live.move_to(live.first_event_at(t), report)
        destinations = torch.from_numpy(self.destinations).to(live.device)
        sources = live.query(batch.src_B, batch.t_B, t)
        candidates = live.query(destinations, torch.full_like(destinations, t), t)
        return all_logits(live.pipeline, sources, candidates).cpu().numpy()


def scored_events(
    live: LiveRun,
    events: range,
    destinations: Tensor,
    max_events: int,
    report: Report = quiet,
    share: Share | None = None,
) -> Iterator[tuple[TemporalBatch, int, Tensor]]:
    """Yield the model's logits of some events with all destinations, time by time.

    Memory has no lag: it has seen every event before the time, and all nodes are embedded at
    that time.

    Args:
        live: the run; its memory is moved through the events.
        events: ids of consecutive events of the stream.
        destinations: [C] sorted nodes.
        max_events: approximate number of events to score, spread evenly; if there are no more
            than that, all are scored.
        report: progress callback that counts scored events.
        share: computes the logits; the run itself when None.

    Yields:
        the events of one time; the id of the first event that they do not see; [n, C] logits.
    """
    chosen = np.arange(events.start, events.stop, -(-len(events) // max_events))
    t_n = np.asarray(live.stream.t[chosen])
    groups = np.split(chosen, np.flatnonzero(t_n[1:] != t_n[:-1]) + 1)
    tasks = (EventsAt(same, destinations.cpu().numpy()) for same in groups)
    done = 0
    for same, logits_nC in zip(groups, (share or Alone(live))(tasks), strict=True):
        batch = _batch(live, same)
        event = live.first_event_at(int(batch.t_B[0]))
        yield batch, event, torch.from_numpy(logits_nC).to(live.device)
        done += len(same)
        report(done, done, len(chosen))


def _batch(live: LiveRun, events: np.ndarray) -> TemporalBatch:
    return batch_of(live.pipeline.tables, torch.from_numpy(events).to(live.device))


def destinations_of_run(live: LiveRun) -> Tensor:
    """Return the [C] sorted destinations of the events that the run was split from."""
    num_events = live.parts.data.split.num_events
    return destinations_of(live.stream, range(num_events)).to(live.parts.device)


def _fit(inputs_nCF: Tensor, true_n: Tensor) -> Tensor:
    """Return the [F] maximum-likelihood weights of a conditional logit."""
    weights_F = torch.zeros(inputs_nCF.shape[2], device=inputs_nCF.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights_F], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        # A little weight decay: a feature that is equal for all candidates has no gradient, and
        # its weight must not drift.
        value = F.cross_entropy(inputs_nCF @ weights_F, true_n) + 1e-4 * weights_F.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)
    return weights_F.detach()
