"""A parallel layout, as `parallel` and `training.batch_size` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParallelPlan:
    """Time slices x epochs x replicas, and the temporal batch of each replica.

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
        return self.slices * self.epochs * self.replicas

    @property
    def memory_workers(self) -> int:
        """Number of workers that share one memory."""
        return self.slices * self.epochs

    @property
    def local_batch(self) -> float:
        """Mean number of events of a slice."""
        return self.batch / self.slices

    @property
    def options(self) -> str:
        """Command-line options of `pres-dist train` for this plan."""
        return (
            f"--parallel.slices {self.slices} --parallel.epochs {self.epochs} "
            f"--parallel.replicas {self.replicas} --training.batch-size {self.batch}"
        )

    def __str__(self) -> str:
        return f"{self.slices:,} x {self.epochs:,} x {self.replicas:,}, batch {self.batch:,}"
