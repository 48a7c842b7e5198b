"""Layout of the work: time slices x epochs x replicas, mapped to ranks.

Ranks enumerate slices first, then epochs, then replicas, and a worker's slices are
consecutive. So the parts of a step, taken in the order of ranks, are in the order
(replica, epoch, slice) for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

from pres_dist.config.parallel import ParallelConfig
from pres_dist.errors import ConfigError


def share(num: int, part: int, parts: int) -> slice:
    """Return one of `parts` consecutive shares of `num` items; sizes differ by at most one."""
    return slice(num * part // parts, num * (part + 1) // parts)


@dataclass(frozen=True)
class Grid:
    """Position of one worker in the layout of the work.

    Attributes:
        rank, size: rank of this worker, and number of workers.
        slices: time slices of a temporal batch.
        epochs: groups of workers with the same events and different negatives.
        replicas: copies of the memory.
    """

    rank: int
    size: int
    slices: int
    epochs: int = 1
    replicas: int = 1

    @property
    def slice_workers(self) -> int:
        """Number of workers that share the slices of one temporal batch."""
        return self.size // (self.epochs * self.replicas)

    @property
    def memory_workers(self) -> int:
        """Number of workers that share one memory."""
        return self.size // self.replicas

    @property
    def slices_each(self) -> int:
        """Number of slices of a temporal batch that each worker computes."""
        return self.slices // self.slice_workers

    @property
    def replica(self) -> int:
        """Memory replica of this worker."""
        return self.rank // self.memory_workers

    @property
    def epoch(self) -> int:
        """Epoch group of this worker within its replica."""
        return self.rank % self.memory_workers // self.slice_workers

    @property
    def in_last_replica(self) -> bool:
        """True if this worker's memory is the one at the end of the training split."""
        return self.replica == self.replicas - 1

    @property
    def last_replica_leader(self) -> int:
        """Rank of the first worker of the last replica."""
        return self.size - self.memory_workers

    def own_slices(self, num_events: int) -> list[slice]:
        """Return the slices of a temporal batch that this worker computes; some may be empty."""
        first = self.rank % self.slice_workers * self.slices_each
        parts = range(first, first + self.slices_each)
        return [share(num_events, part, self.slices) for part in parts]

    def memory_ranks(self, replica: int) -> list[int]:
        """Return the ranks of the workers that share a memory."""
        return list(range(replica * self.memory_workers, (replica + 1) * self.memory_workers))

    def own_replica(self) -> Grid:
        """Return this worker's grid within its replica; epochs are unchanged."""
        return Grid(self.rank % self.memory_workers, self.memory_workers, self.slices, self.epochs)


def training_grid(config: ParallelConfig, rank: int, size: int) -> Grid:
    """Return the grid of a training run.

    Raises:
        ConfigError: this number of workers cannot share the work in this way.
    """
    groups = config.epochs * config.replicas
    if size % groups:
        raise ConfigError(
            f"parallel: the number of workers must be a multiple of epochs x replicas = "
            f"{config.epochs} x {config.replicas} = {groups}, got {size} workers"
        )
    slices = config.slices or size // groups
    if slices % (size // groups):
        raise ConfigError(
            f"parallel.slices must be a multiple of the {size // groups} workers that share a "
            f"temporal batch, got {slices}; null takes one slice for each"
        )
    return Grid(rank, size, slices, config.epochs, config.replicas)


def evaluation_grid(config: ParallelConfig, rank: int, size: int) -> Grid:
    """Return a grid of slices only: as many as in training if the workers can share them."""
    slices = config.slices or size
    return Grid(rank, size, slices if slices % size == 0 else size)
