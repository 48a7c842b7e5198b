"""Layouts of workers: time slices x epochs x replicas, and a temporal batch, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pres_dist.config.presets import PresetName

TOLERANCE = 0.003
"""Largest accepted loss of test AP against the same method at a batch of 200."""
TOLERATED: dict[str, int] = {"best": 3200}
"""Largest temporal batch within the tolerance of the model alone at 200, by preset; a test
derives it from benchmarks/results/decoders.json and batch_size.json."""
SMALL_BATCH = 200
"""Largest temporal batch for all other presets: none stays within the tolerance beyond it on
all streams."""
SMALLEST_BATCH = 100


def largest_batch(preset: PresetName) -> int:
    """Return the largest temporal batch, in events, that kept accuracy with a preset."""
    return TOLERATED.get(preset, SMALL_BATCH)


@dataclass(frozen=True)
class Layout:
    """Parallel layout of a run, as `parallel` and `training.batch_size` of a configuration.

    Attributes:
        slices, epochs, replicas: as in `ParallelConfig`; one worker for each slice.
        batch: events of a temporal batch.
    """

    slices: int
    epochs: int
    replicas: int
    batch: int

    @property
    def workers(self) -> int:
        """Return the number of workers."""
        return self.slices * self.epochs * self.replicas

    @property
    def memory_workers(self) -> int:
        """Return the number of workers that share one memory."""
        return self.slices * self.epochs

    @property
    def local_batch(self) -> float:
        """Return the mean number of events of a slice."""
        return self.batch / self.slices

    @property
    def options(self) -> str:
        """Return the command-line options of `pres-dist train` for this layout."""
        return (
            f"--parallel.slices {self.slices} --parallel.epochs {self.epochs} "
            f"--parallel.replicas {self.replicas} --training.batch-size {self.batch}"
        )

    def __str__(self) -> str:
        return f"{self.slices:,} x {self.epochs:,} x {self.replicas:,}, batch {self.batch:,}"


@dataclass(frozen=True)
class Bounds:
    """Limits on the choices of a layout that cost accuracy.

    Attributes:
        batch: largest temporal batch, in events.
        epochs: largest number of groups that draw their own negatives.
        replicas: largest number of memory replicas.
    """

    batch: int
    epochs: int = 1
    replicas: int = 1


def layouts(workers: int, bounds: Bounds) -> Iterator[Layout]:
    """Yield all layouts within the bounds.

    Batches are the largest one and its repeated halves. A slice has at least one event.
    """
    batches = [bounds.batch]
    while batches[-1] // 2 >= SMALLEST_BATCH:
        batches.append(batches[-1] // 2)
    for replicas in _divisors(workers, bounds.replicas):
        for epochs in _divisors(workers // replicas, bounds.epochs):
            slices = workers // replicas // epochs
            yield from (Layout(slices, epochs, replicas, one) for one in batches if one >= slices)


def _divisors(number: int, most: int) -> list[int]:
    return [part for part in range(1, min(number, most) + 1) if number % part == 0]
