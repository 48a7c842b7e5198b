"""Stretches of a stream that the memory is updated with, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pres_dist.training.setup import Parts


@dataclass(frozen=True)
class Stretch:
    """Consecutive events whose temporal batches do not extend into the next stretch.

    Attributes:
        borders: first event of each batch, and the event after the last.
        events: ascending ids; if nodes are held out, not all ids between the borders.
        learns: True for training events, whose transitions enter the statistics.
    """

    borders: Sequence[int]
    events: range | np.ndarray
    learns: bool

    @property
    def first_event(self) -> int:
        return self.borders[0]

    def between(self, first: int, end: int) -> range | np.ndarray:
        """Return the events with first <= id < end."""
        if isinstance(self.events, range):
            return range(first, end)
        low, high = np.searchsorted(self.events, [first, end])
        return self.events[low:high]


def stretches_of(parts: Parts, segments: Sequence[int], replay: bool) -> list[Stretch]:
    """Return the stretches of a stream: the training split if replayed, and all later segments.

    Args:
        parts: parts of the run.
        segments: ascending ends of the segments after the training split: validation split, test
            split and each extension.
        replay: include the training split.
    """
    size = parts.config.evaluation.batch_size
    train_end = parts.data.split.train_end
    stretches = []
    if replay:
        sweep = parts.evaluation_loader(parts.data.kept, size)
        kept = np.asarray(parts.data.kept)
        borders = [int(kept[sweep.events_before(number)]) for number in range(len(sweep))]
        stretches.append(Stretch([0, *borders[1:], train_end], parts.data.kept, learns=True))
    first = train_end
    for end in segments:
        if end > first:
            sweep = parts.evaluation_loader(range(first, end), size)
            borders = [first + sweep.events_before(number) for number in range(len(sweep) + 1)]
            stretches.append(Stretch(borders, range(first, end), learns=False))
        first = end
    return stretches
