"""Negative destinations, keyed by (seed, epoch, event id).

Random negatives are drawn from the nodes that occur as destinations, so that a
bipartite task is never made easy by sources. Historical and inductive negatives
follow Poursafaei et al. (NeurIPS 2022): earlier partners of the same source, met
in the training part, or met only after it.

Shapes: B events, M negatives an event.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.config import NegativeKind
from pres_dist.sampling.counter_rng import CounterRNG

_PURPOSE = 0x6E67
# Draws from the history before falling back to a random destination: a source
# whose history is one single partner, the true one, has no historical negative.
_ATTEMPTS = 4


class NegativeSampler:
    """Draws M destinations other than the true one for each event.

    Where a source has no historical or inductive negative, a random one stands in;
    `counts` tells how many are what was asked for.

    Args:
        kind: random, historical or inductive.
        stream: the events.
        destinations: [n] sorted ids that may be drawn.
        adjacency: histories for the historical and inductive kinds.
        train_end: first event after the training part.
        seed: draws are a function of (seed, epoch, event id, slot).

    Raises:
        DataError: fewer than two destinations to choose from.
    """

    def __init__(
        self,
        kind: NegativeKind,
        stream: EventStream,
        destinations: Tensor,
        adjacency: TemporalAdjacency,
        train_end: int,
        seed: int,
    ) -> None:
        if destinations.numel() < 2:
            raise DataError(
                f"negatives need at least 2 distinct destinations, got {destinations.numel()}"
            )
        self._kind = kind
        self._destinations = destinations.to(adjacency.device)
        self._adjacency = adjacency
        self._train_end = train_end
        self._seed = seed
        self._num_nodes = stream.num_nodes
        self.counts = torch.zeros(2, dtype=torch.int64, device=adjacency.device)
        """Negatives drawn so far, and those of them that are of the kind asked for."""
        if kind == "inductive":
            pairs = torch.from_numpy(np.stack([stream.src[:train_end], stream.dst[:train_end]]))
            self._train_pairs = self._pair_keys(pairs[0], pairs[1]).unique().to(adjacency.device)

    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: int, first: int = 0
    ) -> Tensor:
        """[B, M] negative destinations of the given events, in slots from `first` on."""
        slot_BM = torch.arange(first, first + num, device=src_B.device)
        slot_BM = slot_BM.expand(src_B.numel(), num)
        event_BM = events_B[:, None].expand_as(slot_BM)
        rng = CounterRNG(self._seed, _PURPOSE, epoch)
        negatives_BM = self._random(rng, dst_B[:, None], event_BM, slot_BM)
        if self._kind == "random":
            self._count(torch.ones_like(negatives_BM))
            return negatives_BM
        found_BM = torch.zeros_like(slot_BM, dtype=torch.bool)
        start_B, end_B = self._window(src_B, events_B)
        for attempt in range(_ATTEMPTS):
            draw_BM = rng.uniform(event_BM, slot_BM, torch.full_like(slot_BM, attempt))
            candidate_BM, valid_BM = self._from_history(src_B, dst_B, start_B, end_B, draw_BM)
            take_BM = valid_BM & ~found_BM
            negatives_BM = torch.where(take_BM, candidate_BM, negatives_BM)
            found_BM |= valid_BM
        self._count(found_BM)
        return negatives_BM

    def _count(self, found_BM: Tensor) -> None:
        self.counts[0] += found_BM.numel()
        self.counts[1] += found_BM.sum()

    def _random(self, rng: CounterRNG, dst: Tensor, event_BM: Tensor, slot_BM: Tensor) -> Tensor:
        """Uniform over the destinations but the true one, by leaving out its place."""
        place, listed = _find(self._destinations, dst)
        drawn_BM = rng.integers(self._destinations.numel() - listed.long(), event_BM, slot_BM)
        return self._destinations[drawn_BM + (listed & (drawn_BM >= place)).long()]

    def _from_history(
        self, src_B: Tensor, dst_B: Tensor, start_B: Tensor, end_B: Tensor, draw_BM: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A past partner of each source by a uniform draw, and whether it will do."""
        length_B = (end_B - start_B)[:, None]
        position_BM = start_B[:, None] + (draw_BM * length_B).long()
        position_BM = torch.where(length_B > 0, position_BM, 0)
        source_BM = src_B[:, None].expand_as(position_BM)
        event_BM = self._adjacency.event_at(source_BM, position_BM)
        event_BM = torch.where(length_B > 0, event_BM, 0)
        partner_BM = self._adjacency.other_endpoint(source_BM, event_BM)
        valid_BM = (length_B > 0) & (partner_BM != dst_B[:, None])
        valid_BM &= _find(self._destinations, partner_BM)[1]
        if self._kind == "inductive":
            valid_BM &= ~_find(self._train_pairs, self._pair_keys(source_BM, partner_BM))[1]
        return partner_BM, valid_BM

    def _window(self, src_B: Tensor, events_B: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the sources' histories that the kind allows, before their events."""
        before_B = self._adjacency.first_event_at(self._adjacency.times(events_B))
        if self._kind == "inductive":
            return self._adjacency.history(src_B, before_B, since=self._train_end)
        return self._adjacency.history(src_B, before_B.clamp(max=self._train_end))

    def _pair_keys(self, first: Tensor, second: Tensor) -> Tensor:
        """One int64 for each unordered pair."""
        if self._num_nodes**2 >= 1 << 63:
            raise DataError(
                f"inductive negatives can index fewer than 3,037,000,500 nodes, "
                f"got {self._num_nodes}"
            )
        return torch.minimum(first, second) * self._num_nodes + torch.maximum(first, second)


def _find(sorted_ids: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Place of each id among the sorted ones, and whether it is there."""
    if sorted_ids.numel() == 0:
        return torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    place = torch.searchsorted(sorted_ids, ids.contiguous()).clamp(max=sorted_ids.numel() - 1)
    return place, sorted_ids[place] == ids


def destinations_of(stream: EventStream, events: range | np.ndarray | None = None) -> Tensor:
    """Sorted distinct destinations of some events of the stream, or of all, [n] int64."""
    if events is None:
        events = range(stream.num_events)
    if isinstance(events, range):
        return torch.from_numpy(np.unique(stream.dst[events.start : events.stop]))
    return torch.from_numpy(np.unique(stream.dst[events]))
