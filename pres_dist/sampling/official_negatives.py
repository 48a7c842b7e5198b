"""Fixed negatives of a benchmark, stored with the stream.

Shapes: B events, at most M negatives an event.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pres_dist.events.stream import EventStream
from pres_dist.sampling.counter_rng import CounterRNG

_PURPOSE = 0x746762


class OfficialNegatives:
    """All stored negatives of the events after the training split.

    TGB's files list the historical negatives first. AP and AUC use the first negative of
    each event, so each event's row is rotated to a random start.

    Args:
        stream: a stream with negatives.
        train_end: first event with negatives.
        seed: seed of the random starts.
        device: device of the returned negatives.
    """

    def __init__(
        self, stream: EventStream, train_end: int, seed: int, device: torch.device
    ) -> None:
        assert stream.negatives is not None
        self._negatives, self._dst = stream.negatives, stream.dst
        self._train_end, self._device = train_end, device
        self._rng = CounterRNG(seed, _PURPOSE)
        self.counts = torch.zeros(2, dtype=torch.int64, device=device)
        """Number of negatives so far, twice: all are of the requested kind."""

    def num_slots(self, wanted: int) -> int:
        """Return the number of stored negatives per event, regardless of `wanted`."""
        return int(self._negatives.shape[1])

    def sample(
        self, src_B: Tensor, dst_B: Tensor, events_B: Tensor, num: int, epoch: int
    ) -> Tensor:
        """Return [B, M] negatives, the first `num` of each row, padded with the true destination.

        Scores of the padding must be ignored: see `missing`.
        """
        rows_BM = self._rows(events_B, num)
        missing_BM = rows_BM < 0
        self.counts += (~missing_BM).sum()
        return torch.where(missing_BM, dst_B[:, None], rows_BM)

    def missing(self, events_B: Tensor, num: int) -> Tensor | None:
        """Return a [B, M] bool mask of missing negatives; None if none are missing."""
        missing_BM = self._rows(events_B, num) < 0
        return missing_BM if bool(missing_BM.any()) else None

    def _rows(self, events_B: Tensor, num: int) -> Tensor:
        """Return [B, M] stored negatives, rotated to a random start and padded with -1."""
        stored = self._negatives[(events_B - self._train_end).cpu().numpy()]
        stored_BM = torch.from_numpy(stored).to(self._device)
        size_B = (stored_BM >= 0).sum(1)
        start_B = self._rng.integers(size_B, events_B)
        slot_BM = torch.arange(num, device=self._device).expand(events_B.numel(), num)
        place_BM = (start_B[:, None] + slot_BM) % size_B.clamp(min=1)[:, None]
        return torch.where(slot_BM < size_B[:, None], stored_BM.gather(1, place_BM), -1)
