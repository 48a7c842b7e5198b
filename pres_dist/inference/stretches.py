"""The stretches of a stream that memory is swept over, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pres_dist.training.setup import Parts


@dataclass(frozen=True)
class Stretch:
    """Events that are swept in temporal batches which do not reach into the next stretch.

    Attributes:
        borders: first event of each batch, and the event after the last.
        events: ids, ascending; less than all between the borders where nodes are held out.
        learns: whether their transitions enter the statistics: training events alone.
    """

    borders: Sequence[int]
    events: range | np.ndarray
    learns: bool

    @property
    def first_event(self) -> int:
        return self.borders[0]

    def between(self, first: int, end: int) -> range | np.ndarray:
        """The events with first <= id < end."""
        if isinstance(self.events, range):
            return range(first, end)
        low, high = np.searchsorted(self.events, [first, end])
        return self.events[low:high]


def stretches_of(parts: Parts, segments: Sequence[int], replay: bool) -> list[Stretch]:
    """The training split, where it is replayed, and what comes after it.

    Args:
        parts: of the run.
        segments: ends of what was swept in one go after the training split: validation,
            test, and each extension; ascending.
        replay: whether the training split is swept too.
    """
    size = parts.config.evaluation.batch_size
    train_end = parts.data.split.train_end
    stretches = []
    if replay:
        sweep = parts.evaluation_sweep(parts.data.kept, size)
        kept = np.asarray(parts.data.kept)
        borders = [int(kept[sweep.events_before(number)]) for number in range(len(sweep))]
        stretches.append(Stretch([0, *borders[1:], train_end], parts.data.kept, learns=True))
    first = train_end
    for end in segments:
        if end > first:
            sweep = parts.evaluation_sweep(range(first, end), size)
            borders = [first + sweep.events_before(number) for number in range(len(sweep) + 1)]
            stretches.append(Stretch(borders, range(first, end), learns=False))
        first = end
    return stretches
