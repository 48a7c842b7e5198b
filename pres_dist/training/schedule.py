"""Which batch each memory replica trains in each step of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

from pres_dist.step.batches import Sweep


class Schedule:
    """A sweep cut into segments of consecutive batches, one for each replica.

    In step n every replica trains the n-th batch of its segment; segments differ by one
    batch at most, and one that has come to its end trains nothing in the last step.
    Segments begin where batches do, so that they never part equal timestamps.

    Args:
        sweep: the training events.
        replicas: number of segments.
    """

    def __init__(self, sweep: Sweep, replicas: int = 1) -> None:
        self._sweep = sweep
        self._starts = [len(sweep) * replica // replicas for replica in range(replicas + 1)]

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return max(
            stop - start for start, stop in zip(self._starts, self._starts[1:], strict=False)
        )

    @property
    def num_events(self) -> int:
        return self._sweep.num_events

    def batch_number(self, step: int, replica: int) -> int | None:
        """The batch of the sweep that a replica trains in a step; None after its segment."""
        number = self._starts[replica] + step
        return number if number < self._starts[replica + 1] else None

    def first_event(self, replica: int) -> int:
        """Events of the sweep before a replica's segment."""
        return self._sweep.events_before(self._starts[replica])

    def events_before(self, step: int) -> int:
        """Events that all replicas together have trained before a step."""
        total = 0
        for start, stop in zip(self._starts, self._starts[1:], strict=False):
            reached = min(start + step, stop)
            total += self._sweep.events_before(reached) - self._sweep.events_before(start)
        return total

    def sizes(self, step: int) -> list[int]:
        """Events that each replica trains in a step."""
        numbers = [self.batch_number(step, replica) for replica in range(len(self._starts) - 1)]
        before = self._sweep.events_before
        return [0 if own is None else before(own + 1) - before(own) for own in numbers]


def stretches(first: int, end: int, steps_before: int, every: int) -> Iterator[range]:
    """Steps `first` to `end` of an epoch, cut where checkpoints are due.

    Args:
        first: first step that is left.
        end: steps of the epoch.
        steps_before: optimiser steps of the run before `first`.
        every: steps of the run between checkpoints; 0 for none inside an epoch.
    """
    while first < end:
        until = end if not every else first + every - steps_before % every
        until = min(until, end)
        yield range(first, until)
        steps_before += until - first
        first = until
