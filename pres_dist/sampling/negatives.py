"""Negative destinations, keyed by (seed, epoch, event id).

Random negatives are drawn from the nodes that occur as destinations, so that sources
do not make a bipartite task easy. Historical and inductive negatives follow Poursafaei
et al. (NeurIPS 2022): earlier partners of the same source, from the training split, or
only from after it. Partners that the source also has at the time of the event are
excluded, since they are true destinations. docs/explanation/evaluation.md lists the differences
from other implementations.

Shapes: B events, M negatives an event.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.sampling import NegativeKind
from pres_dist.errors import DataError
from pres_dist.events.stream import EventStream
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.counter_rng import CounterRNG
from pres_dist.sampling.event_groups import EventGroups, PairKeys, find

_PURPOSE, _OFFICIAL = 0x6E67, 0x746762
# Number of draws from the history before falling back to a random destination: a source
# whose only partner is the true one has no historical negative.
_ATTEMPTS = 4
_EVENTS_AT_A_TIME = 1 << 24


class Negatives(ABC):
    """Negatives that each event is ranked against, or trained with."""

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(2, dtype=torch.int64, device=device)

    @property
    def counts(self) -> Tensor:
        """Number of negatives so far, and number of the requested kind: [2] int64."""
        return self._counts

    @abstractmethod
    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: int, first: int = 0
    ) -> Tensor:
        """Return [B, M] negatives of the events, for slots starting at `first`.

        They are a function of event id, epoch and slot, whatever the batch.
        """

    def num_slots(self, wanted: int) -> int:
        """Return the number of negatives per event if `wanted` are requested."""
        return wanted

    def missing(self, events_B: Tensor, num: int) -> Tensor | None:
        """Return a [B, M] bool mask of missing negatives; None if none are missing."""
        return None

    def log_density(self, share_BM: Tensor, known_BM: Tensor) -> Tensor | None:
        """Return [B, M] logs of how much likelier candidates are as negatives than at random.

        Args:
            share_BM: share of each candidate in the earlier events of its source.
            known_BM: True if its source has earlier events.

        Returns:
            None if the ratio is 1, or unknown.
        """
        return None

    def _count(self, drawn: int | Tensor, found: int | Tensor) -> None:
        self._counts[0] += drawn
        self._counts[1] += found


class NegativeSampler(Negatives):
    """Sampler of M destinations other than the true one for each event.

    If a source has no historical or inductive negative, a random one replaces it.

    Args:
        kind: random, historical or inductive.
        stream: the events.
        destinations: [n] sorted ids that may be drawn.
        adjacency: histories for the historical and inductive kinds.
        train_end: first event after the training split; None treats the first half of the
            events before a query as the training split.
        seed: seed of the draws.

    Raises:
        DataError: fewer than two destinations to choose from.
    """

    def __init__(
        self,
        kind: NegativeKind,
        stream: EventStream,
        destinations: Tensor,
        adjacency: TemporalAdjacency,
        train_end: int | None,
        seed: int,
    ) -> None:
        if destinations.numel() < 2:
            raise DataError(
                f"negatives need at least 2 distinct destinations, got {destinations.numel()}"
            )
        super().__init__(adjacency.device)
        self._kind = kind
        self._destinations = destinations.to(adjacency.device)
        self._adjacency = adjacency
        self._train_end = train_end
        self._seed = seed
        if kind != "random":
            src_E, dst_E = adjacency.endpoints
            self._keys = PairKeys(stream, src_E, dst_E)
            # Training excludes held-out events from histories, but they are true events too.
            self._pairs = EventGroups.of(self._keys.ordered(src_E, dst_E))
        if kind == "inductive" and train_end is not None:
            self._train_pairs = self._keys.unordered(src_E[:train_end], dst_E[:train_end]).unique()

    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: int, first: int = 0
    ) -> Tensor:
        """Return [B, M] negatives of the events, for slots starting at `first`."""
        slot_BM = torch.arange(first, first + num, device=src_B.device)
        slot_BM = slot_BM.expand(src_B.numel(), num)
        event_BM = events_B[:, None].expand_as(slot_BM)
        rng = CounterRNG(self._seed, _PURPOSE, epoch)
        negatives_BM = self._random(rng, dst_B[:, None], event_BM, slot_BM)
        if self._kind == "random":
            self._count(negatives_BM.numel(), negatives_BM.numel())
            return negatives_BM
        history = self._history(src_B, events_B)[:, :, None].expand(-1, -1, num).flatten(1)
        src_Q, dst_Q, event_Q = (
            column[:, None].expand_as(slot_BM).flatten() for column in (src_B, dst_B, events_B)
        )
        negatives_Q, slot_Q = negatives_BM.flatten(), slot_BM.flatten()
        open_Q = torch.ones_like(negatives_Q, dtype=torch.bool)
        # Every slot draws by (event, slot, attempt), so that neither the batch nor the draws of
        # other slots can change its negative. All attempts are made for all negatives: to select
        # the open ones, a GPU would wait.
        for attempt in range(_ATTEMPTS):
            draw_Q = rng.uniform(event_Q, slot_Q, torch.full_like(slot_Q, attempt))
            partner_Q, valid_Q = self._partners(src_Q, dst_Q, history, draw_Q)
            negatives_Q = torch.where(open_Q & valid_Q, partner_Q, negatives_Q)
            open_Q &= ~valid_Q
        self._count(negatives_Q.numel(), negatives_Q.numel() - open_Q.sum())
        return negatives_Q.view_as(negatives_BM)

    def _random(self, rng: CounterRNG, dst: Tensor, event_BM: Tensor, slot_BM: Tensor) -> Tensor:
        """Draw uniformly from the destinations except the true one, by skipping its index."""
        place, listed = find(self._destinations, dst)
        drawn_BM = rng.integers(self._destinations.numel() - listed.long(), event_BM, slot_BM)
        return self._destinations[drawn_BM + (listed & (drawn_BM >= place)).long()]

    def _partners(
        self, src_Q: Tensor, dst_Q: Tensor, history: Tensor, draw_Q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw a past partner of each source, uniformly over its events, with a validity mask."""
        start_Q, end_Q, now_Q, later_Q = history
        length_Q = end_Q - start_Q
        some_Q = length_Q > 0
        # A partner is as likely as its events are frequent: draw an event, not a partner.
        position_Q = torch.where(some_Q, start_Q + (draw_Q * length_Q).long(), 0)
        event_Q = torch.where(some_Q, self._adjacency.event_at(src_Q, position_Q), 0)
        partner_Q = self._adjacency.other_endpoint(src_Q, event_Q)
        valid_Q = some_Q & (partner_Q != dst_Q) & find(self._destinations, partner_Q)[1]
        pair_Q = self._keys.ordered(src_Q, partner_Q)
        valid_Q &= self._pairs.counts(pair_Q, later_Q, now_Q)[1] == 0
        if self._kind == "inductive" and self._train_end is None:
            both_2Q = torch.cat([pair_Q, self._keys.ordered(partner_Q, src_Q)])
            (met_2Q,) = self._pairs.counts(both_2Q, (now_Q // 2).repeat(2))
            valid_Q &= met_2Q.view(2, -1).sum(0) == 0
        elif self._kind == "inductive":
            valid_Q &= ~find(self._train_pairs, self._keys.unordered(src_Q, partner_Q))[1]
        return partner_Q, valid_Q

    def _history(self, src_B: Tensor, events_B: Tensor) -> Tensor:
        """Return the events to draw from, as the kind allows: [4, B].

        They are the start and end of their positions, the first event at the query's time, and
        the first event after it.
        """
        t_B = self._adjacency.times(events_B)
        now_B, later_B = self._adjacency.first_event_at(t_B), self._adjacency.first_event_after(t_B)
        train_end = self._train_end
        if self._kind == "inductive" and train_end is None:
            _, start_B = self._adjacency.history(src_B, now_B // 2)
            _, end_B = self._adjacency.history(src_B, now_B)
        elif self._kind == "inductive" and train_end is not None:
            start_B, end_B = self._adjacency.history(src_B, now_B, since=train_end)
        else:
            start_B, end_B = self._adjacency.history(src_B, now_B.clamp(max=train_end))
        return torch.stack([start_B, end_B, now_B, later_B])


class OfficialNegatives(Negatives):
    """All stored negatives of the events after the training split.

    TGB's files list the historical negatives first. AP and AUC use the first negative of
    each event, so each event's row is rotated to a random start.

    Args:
        train_end: first event with negatives.
        seed: seed of the random starts.
    """

    def __init__(
        self, stream: EventStream, train_end: int, seed: int, device: torch.device
    ) -> None:
        super().__init__(device)
        assert stream.negatives is not None
        self._negatives, self._dst = stream.negatives, stream.dst
        self._train_end, self._device = train_end, device
        self._rng = CounterRNG(seed, _OFFICIAL)

    def num_slots(self, wanted: int) -> int:
        """Return the number of stored negatives per event, regardless of `wanted`."""
        return int(self._negatives.shape[1])

    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: int, first: int = 0
    ) -> Tensor:
        """Return [B, M] negatives, padded with the true destination.

        Scores of the padding must be ignored: see `missing`.
        """
        rows_BM = self._rows(events_B, num, first)
        missing_BM = rows_BM < 0
        self._counts += (~missing_BM).sum()  # all are of the requested kind
        return torch.where(missing_BM, dst_B[:, None], rows_BM)

    def missing(self, events_B: Tensor, num: int) -> Tensor | None:
        """Return a [B, M] bool mask of missing negatives; None if none are missing."""
        missing_BM = self._rows(events_B, num) < 0
        return missing_BM if bool(missing_BM.any()) else None

    def _rows(self, events_B: Tensor, num: int, first: int = 0) -> Tensor:
        """Return [B, M] stored negatives, rotated to a random start and padded with -1."""
        stored = self._negatives[(events_B - self._train_end).cpu().numpy()]
        stored_BM = torch.from_numpy(stored).to(self._device)
        size_B = (stored_BM >= 0).sum(1)
        start_B = self._rng.integers(size_B, events_B)
        slot_M = torch.arange(first, first + num, device=self._device)
        slot_BM = slot_M.expand(events_B.numel(), num)
        place_BM = (start_B[:, None] + slot_BM) % size_B.clamp(min=1)[:, None]
        return torch.where(slot_BM < size_B[:, None], stored_BM.gather(1, place_BM), -1)


def destinations_of(stream: EventStream, events: range | np.ndarray | None = None) -> Tensor:
    """Return the [n] int64 sorted distinct destinations of some or all events of the stream."""
    if events is None:
        events = range(stream.num_events)
    distinct = np.empty(0, dtype=np.int64)
    for first in range(0, len(events), _EVENTS_AT_A_TIME):
        own = events[first : first + _EVENTS_AT_A_TIME]
        rows = slice(own.start, own.stop) if isinstance(own, range) else own
        distinct = np.union1d(distinct, stream.dst[rows])
    return torch.from_numpy(distinct)
