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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pres_dist.config.sampling import NegativeKind
from pres_dist.errors import DataError
from pres_dist.events.split import as_index
from pres_dist.events.stream import EventStream
from pres_dist.sampling.adjacency import TemporalAdjacency
from pres_dist.sampling.counter_rng import CounterRNG, Key, integers
from pres_dist.sampling.event_groups import EventGroups, PairKeys, find

_PURPOSE, _OFFICIAL = 0x6E67, 0x746762
# Number of draws from the history before falling back to a random destination: a source
# whose only partner is the true one has no historical negative.
_ATTEMPTS = 4
_EVENTS_AT_A_TIME = 1 << 24


class Negatives(ABC):
    """Negatives that each event is ranked against, or trained with."""

    def __init__(self, device: torch.device) -> None:
        self._zero = torch.zeros((), dtype=torch.int64, device=device)
        self._drawn: int | Tensor = 0
        self._found: int | Tensor = 0

    def take_counts(self) -> Tensor:
        """Count negatives since the last call, and those of the requested kind: [2] int64."""
        counts = torch.stack([self._zero + self._drawn, self._zero + self._found])
        self._drawn = self._found = 0
        return counts

    @abstractmethod
    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: Key, first: int = 0
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
        self._drawn, self._found = self._drawn + drawn, self._found + found


@dataclass(frozen=True)
class Slots:
    """Slots of the negatives of events, with the random draws that all kinds share.

    Attributes:
        rng: generator of `_PURPOSE`, keyed by event and slot.
        uniform: [B, M] uniform draws in [0, 1), by purpose.
        random_BM: random negatives, for slots without one of the requested kind.
    """

    rng: CounterRNG
    uniform: Mapping[int, Tensor]
    random_BM: Tensor


class DrawnNegatives(Negatives):
    """Negatives that are drawn slot by slot, or replaced by random ones.

    Args:
        destinations: [n] sorted ids that may be drawn, on the device.
        seed: seed of the draws.

    Raises:
        DataError: fewer than two destinations to choose from.
    """

    purposes: tuple[int, ...] = (_PURPOSE,)
    """Purposes of its draws, which are independent."""

    def __init__(self, destinations: Tensor, seed: int) -> None:
        if destinations.numel() < 2:
            raise DataError(
                f"negatives need at least 2 distinct destinations, got {destinations.numel()}"
            )
        super().__init__(destinations.device)
        self._destinations, self._seed = destinations, seed

    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: Key, first: int = 0
    ) -> Tensor:
        """Return [B, M] negatives of the events, for slots starting at `first`."""
        slot_M = torch.arange(first, first + num, device=src_B.device)
        rngs = [CounterRNG(self._seed, purpose, epoch) for purpose in self.purposes]
        joint = CounterRNG.joint(rngs, events_B[:, None], slot_M)
        uniform = dict(zip(self.purposes, joint.uniform(), strict=True))
        random_BM = self._random(uniform[_PURPOSE], dst_B[:, None])
        return self.draw(src_B, dst_B, events_B, Slots(joint[0], uniform, random_BM))

    @abstractmethod
    def draw(self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, slots: Slots) -> Tensor:
        """Return [B, M] negatives of the events."""

    def _random(self, uniform_BM: Tensor, dst_B1: Tensor) -> Tensor:
        """Draw uniformly from the destinations except the true one, by skipping its index."""
        place_B1, listed_B1 = find(self._destinations, dst_B1)
        drawn_BM = integers(uniform_BM, self._destinations.numel() - listed_B1.long())
        return self._destinations[drawn_BM + (listed_B1 & (drawn_BM >= place_B1))]


class NegativeSampler(DrawnNegatives):
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
        super().__init__(destinations.to(adjacency.device), seed)
        self._kind = kind
        self._adjacency = adjacency
        self._train_end = train_end
        if kind != "random":
            src_E, dst_E = adjacency.endpoints
            self._keys = PairKeys(stream, src_E, dst_E)
            # Training excludes held-out events from histories, but they are true events too.
            self._pairs = EventGroups.of(self._keys.ordered(src_E, dst_E))
        if kind == "inductive" and train_end is not None:
            self._train_pairs = self._keys.unordered(src_E[:train_end], dst_E[:train_end]).unique()

    def draw(self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, slots: Slots) -> Tensor:
        """Return [B, M] negatives of the events."""
        random_BM = slots.random_BM
        if self._kind == "random":
            self._count(random_BM.numel(), random_BM.numel())
            return random_BM
        # Every slot draws by (event, slot, attempt), so that neither the batch nor the draws of
        # other slots can change its negative. All attempts are made for all negatives at once: to
        # select those that still lack one, a GPU would wait.
        history = self._history(src_B, events_B)
        partner_ABM, valid_ABM = self._partners(src_B[:, None], dst_B[:, None], history, slots.rng)
        # The first valid attempt: `argmax` returns the first of equal values.
        first_1BM = valid_ABM.to(torch.uint8).argmax(0, keepdim=True)
        found_BM = valid_ABM.gather(0, first_1BM)[0]
        self._count(found_BM.numel(), found_BM.sum())
        return torch.where(found_BM, partner_ABM.gather(0, first_1BM)[0], random_BM)

    def _partners(
        self, src_B1: Tensor, dst_B1: Tensor, history: Sequence[Tensor], rng: CounterRNG
    ) -> tuple[Tensor, Tensor]:
        """Draw past partners of each source, uniformly over its events, with a validity mask."""
        attempt_A11 = torch.arange(_ATTEMPTS, device=src_B1.device)[:, None, None]
        start_B1, end_B1, now_B1, later_B1 = (each[:, None] for each in history)
        length_B1 = end_B1 - start_B1
        some_B1 = length_B1 > 0
        # A partner is as likely as its events are frequent: draw an event, not a partner.
        position = start_B1 + rng.integers(length_B1, attempt_A11)
        event = self._adjacency.event_at(src_B1, position * some_B1) * some_B1
        partner = self._adjacency.other_endpoint(src_B1, event)
        valid = some_B1 & (partner != dst_B1) & find(self._destinations, partner)[1]
        pair = self._keys.ordered(src_B1, partner)
        (num_now,) = self._pairs.counts(pair, later_B1, now_B1)
        valid &= num_now == 0
        if self._kind == "inductive" and self._train_end is None:
            for either in (pair, self._keys.ordered(partner, src_B1)):
                (num_before,) = self._pairs.counts(either, now_B1 // 2, None)
                valid &= num_before == 0
        elif self._kind == "inductive":
            valid &= ~find(self._train_pairs, self._keys.unordered(src_B1, partner))[1]
        return partner, valid

    def _history(self, src_B: Tensor, events_B: Tensor) -> list[Tensor]:
        """Return the events to draw from, as the kind allows: [B] each.

        They are the start and end of their positions, the first event at the query's time, and
        the first event after it.
        """
        t_B = self._adjacency.times(events_B)
        now_B, later_B = self._adjacency.first_event_at(t_B), self._adjacency.first_event_after(t_B)
        train_end = self._train_end
        if self._kind == "inductive" and train_end is None:
            start_B = self._adjacency.end(src_B, now_B // 2)
            end_B = self._adjacency.end(src_B, now_B)
        elif self._kind == "inductive" and train_end is not None:
            start_B, end_B = self._adjacency.history(src_B, now_B, since=train_end)
        else:
            start_B, end_B = self._adjacency.history(src_B, now_B.clamp(max=train_end))
        return [start_B, end_B, now_B, later_B]


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
        self._negatives, self._train_end, self._device = stream.negatives, train_end, device
        self._rng = CounterRNG(seed, _OFFICIAL)

    def num_slots(self, wanted: int) -> int:
        """Return the number of stored negatives per event, regardless of `wanted`."""
        return int(self._negatives.shape[1])

    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: Key, first: int = 0
    ) -> Tensor:
        """Return [B, M] negatives, padded with the true destination.

        Scores of the padding must be ignored: see `missing`.
        """
        rows_BM = self._rows(events_B, num, first)
        missing_BM = rows_BM < 0
        present = (~missing_BM).sum()
        self._count(present, present)  # all are of the requested kind
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
        own = as_index(events[first : first + _EVENTS_AT_A_TIME])
        distinct = np.union1d(distinct, stream.dst[own])
    return torch.from_numpy(distinct)
