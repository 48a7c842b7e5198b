"""Schedule of batches: which batch each memory replica trains in each step of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

from pres_dist.parallel.grid import share
from pres_dist.step.batches import TemporalLoader


class Schedule:
    """Training batches, divided into segments of consecutive ones, one for each replica.

    In step n every replica trains the n-th batch of its segment. Segments differ by one
    batch at most; a replica with the shorter segment trains nothing in the last step.
    Segments begin at batch boundaries, so that they never separate equal timestamps.

    Args:
        loader: the training events.
        replicas: number of segments.
    """

    def __init__(self, loader: TemporalLoader, replicas: int = 1) -> None:
        self._loader = loader
        self._segments = [share(len(loader), replica, replicas) for replica in range(replicas)]

    @property
    def num_steps(self) -> int:
        """Number of steps per epoch."""
        return max(own.stop - own.start for own in self._segments)

    def batch_number(self, step: int, replica: int) -> int | None:
        """Return the batch that a replica trains in a step; None after the end of its segment."""
        own = self._segments[replica]
        return own.start + step if own.start + step < own.stop else None

    def events_before(self, step: int) -> int:
        """Return the number of events that all replicas together train before a step."""
        total = 0
        for own in self._segments:
            reached = min(own.start + step, own.stop)
            total += self._loader.events_before(reached) - self._loader.events_before(own.start)
        return total

    def sizes(self, step: int) -> list[int]:
        """Return the number of events that each replica trains in a step."""
        numbers = [self.batch_number(step, replica) for replica in range(len(self._segments))]
        before = self._loader.events_before
        return [0 if own is None else before(own + 1) - before(own) for own in numbers]


def stretches(first: int, end: int, steps_before: int, every: int) -> Iterator[range]:
    """Yield the steps `first` to `end` of an epoch as ranges that end where checkpoints are due.

    Args:
        first: first remaining step.
        end: number of steps in the epoch.
        steps_before: steps of the run before `first`.
        every: steps of the run between checkpoints; 0 for none inside an epoch.
    """
    while first < end:
        until = end if not every else first + every - steps_before % every
        until = min(until, end)
        yield range(first, until)
        steps_before += until - first
        first = until
