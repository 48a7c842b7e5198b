"""Negative destinations of training events, of one kind or a mixture of several.

Every slot of an event draws its kind with the counter-based generator that also draws the
negative, so a mixture does not depend on how events are divided into batches or workers.

Shapes: B events, M negatives an event, n kept events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.sampling import TrainingNegatives, shares_of
from pres_dist.events.stream import EventStream
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.counter_rng import integers
from pres_dist.sampling.event_log import RECENT_EVENTS
from pres_dist.sampling.negatives import DrawnNegatives, Negatives, NegativeSampler, Slots

_PURPOSE_KIND = 0x6D6978
_PURPOSE_POPULAR = 0x706F70


def training_negatives(
    negatives: str,
    stream: EventStream,
    destinations: Tensor,
    adjacency: TemporalAdjacency,
    kept: range | np.ndarray,
    train_end: int,
    seed: int,
) -> Negatives:
    """Return the sampler of `sampling.negatives`: one kind, or a mixture of kinds.

    Args:
        negatives: value of the setting.
        adjacency: histories that training may see.
        kept: ids of training events.
        stream, destinations, train_end, seed: as in `NegativeSampler`, with its errors.
    """
    shares = shares_of(negatives)

    def sampler(kind: TrainingNegatives) -> DrawnNegatives:
        if kind == "popular":
            return PopularNegatives(destinations, adjacency, kept, seed)
        end = None if kind == "inductive" else train_end
        return NegativeSampler(kind, stream, destinations, adjacency, end, seed)

    samplers = [sampler(kind) for kind in shares]
    if len(samplers) == 1:
        return samplers[0]
    return MixedNegatives(samplers, shares, destinations.to(adjacency.device), seed)


class PopularNegatives(DrawnNegatives):
    """Destinations of the last 1,000 events that training may see.

    If an event's own destination is drawn, a random negative replaces it.
    """

    purposes = (*DrawnNegatives.purposes, _PURPOSE_POPULAR)

    def __init__(
        self,
        destinations: Tensor,
        adjacency: TemporalAdjacency,
        kept: range | np.ndarray,
        seed: int,
    ) -> None:
        super().__init__(destinations.to(adjacency.device), seed)
        self._adjacency = adjacency
        self._kept_n: Tensor | None = None
        if not isinstance(kept, range):
            self._kept_n = torch.from_numpy(kept).to(adjacency.device)

    def draw(self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, slots: Slots) -> Tensor:
        """Return [B, M] negatives of the events."""
        before_B = self._adjacency.first_event_at(self._adjacency.times(events_B))
        if self._kept_n is not None:
            before_B = torch.searchsorted(self._kept_n, before_B)
        window_B1 = before_B.clamp(max=RECENT_EVENTS)[:, None]
        back_BM = integers(slots.uniform[_PURPOSE_POPULAR], window_B1)
        place_BM = (before_B[:, None] - 1 - back_BM).clamp(min=0)
        event_BM = place_BM if self._kept_n is None else self._kept_n[place_BM]
        _, dst_E = self._adjacency.endpoints
        drawn_BM = dst_E[event_BM]
        valid_BM = (window_B1 > 0) & (drawn_BM != dst_B[:, None])
        self._count(valid_BM.numel(), valid_BM.sum())
        return torch.where(valid_BM, drawn_BM, slots.random_BM)


class MixedNegatives(DrawnNegatives):
    """Negatives of several kinds.

    Args:
        samplers: one sampler for each kind.
        shares: shares of the kinds, which sum to 1.
        destinations: [n] sorted ids that may be drawn, on the device.
        seed: seed of the draws.
    """

    def __init__(
        self,
        samplers: Sequence[DrawnNegatives],
        shares: Mapping[TrainingNegatives, float],
        destinations: Tensor,
        seed: int,
    ) -> None:
        super().__init__(destinations, seed)
        self._samplers, self._historical = samplers, shares.get("historical", 0)
        needed = {purpose: None for sampler in samplers for purpose in sampler.purposes}
        self.purposes = (*needed, _PURPOSE_KIND)
        bounds = torch.from_numpy(np.cumsum(list(shares.values()))[:-1])
        self._bounds = bounds.to(destinations.device)

    def take_counts(self) -> Tensor:
        """Count the negatives that all samplers drew, and those of their kinds: [2] int64."""
        return torch.stack([sampler.take_counts() for sampler in self._samplers]).sum(0)

    def draw(self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, slots: Slots) -> Tensor:
        """Return [B, M] negatives of the events."""
        kind_BM = torch.searchsorted(self._bounds, slots.uniform[_PURPOSE_KIND])
        # All kinds draw all slots: a choice by mask would make shapes depend on the data.
        drawn = [sampler.draw(src_B, dst_B, events_B, slots) for sampler in self._samplers]
        return torch.stack(drawn).gather(0, kind_BM[None])[0]

    def log_density(self, share_BM: Tensor, known_BM: Tensor) -> Tensor | None:
        """Return [B, M] logs of how much likelier candidates are as negatives than at random.

        A historical negative is the partner in a random earlier event of the source, so its
        probability is the candidate's share in these events; a random one has 1 / n. A source
        without earlier events has random negatives only. Kinds without a known density count as
        random. Excluding the true destination would scale both kinds almost alike, and is left
        out.
        """
        if not self._historical:
            return None
        ratio_BM = share_BM * (self._historical * self._destinations.numel())
        return torch.log(torch.where(known_BM, ratio_BM + (1 - self._historical), 1.0))
