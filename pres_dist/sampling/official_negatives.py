"""Negatives that a benchmark has drawn for everybody, stored with the stream.

Shapes: B events, M negatives an event at most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.events.stream import EventStream
from pres_dist.sampling.counter_rng import CounterRNG

_PURPOSE = 0x746762


class OfficialNegatives:
    """The stored negatives of the events after training, all of them.

    Their order says nothing, and in TGB's files the historical ones come first. So that the
    first one, which AP and AUC use, is no special one, each event's row begins at a drawn
    place.

    Args:
        stream: one with negatives.
        train_end: first event that has some.
        seed: of the drawn places.
        device: where negatives are wanted.
    """

    def __init__(
        self, stream: EventStream, train_end: int, seed: int, device: torch.device
    ) -> None:
        assert stream.negatives is not None
        self._negatives, self._dst = stream.negatives, stream.dst
        self._train_end, self._device = train_end, device
        self._rng = CounterRNG(seed, _PURPOSE)
        self.counts = torch.zeros(2, dtype=torch.int64, device=device)
        """Negatives so far, twice: all are what was asked for."""

    def num_slots(self, wanted: int) -> int:
        """All that are stored, however many are wanted."""
        return int(self._negatives.shape[1])

    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: int
    ) -> Tensor:
        """[B, M] the first `num` of the events' rows; the true destination where there are fewer.

        Scores of the latter do not count: `missing` tells which.
        """
        rows_BM = self._rows(events_B, num)
        missing_BM = rows_BM < 0
        self.counts += (~missing_BM).sum()
        return torch.where(missing_BM, dst_B[:, None], rows_BM)

    def missing(self, events_B: Tensor, num: int) -> Tensor | None:
        """[B, M] bool, True where an event has fewer negatives; None where none has."""
        missing_BM = self._rows(events_B, num) < 0
        return missing_BM if bool(missing_BM.any()) else None

    def _rows(self, events_B: Tensor, num: int) -> Tensor:
        """[B, M] stored negatives from a drawn place on, then -1."""
        stored = self._negatives[(events_B - self._train_end).cpu().numpy()]
        stored_BM = torch.from_numpy(stored).to(self._device)
        size_B = (stored_BM >= 0).sum(1)
        start_B = self._rng.integers(size_B, events_B)
        slot_BM = torch.arange(num, device=self._device).expand(events_B.numel(), num)
        place_BM = (start_B[:, None] + slot_BM) % size_B.clamp(min=1)[:, None]
        return torch.where(slot_BM < size_B[:, None], stored_BM.gather(1, place_BM), -1)
