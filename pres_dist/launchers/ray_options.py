"""Options for spreading a run over a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError

PLACEMENTS = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Options of the launcher, in addition to the configuration of the run.

    Attributes:
        num_workers: processes that share the run.
        placement: strategy of their placement group: on few nodes or on many.
        max_failures: worker failures after which the run still resumes.
    """

    num_workers: int = 2
    placement: str = "PACK"
    max_failures: int = 3

    def __post_init__(self) -> None:
        """Raise ConfigError for values that Ray would not accept."""
        if self.num_workers < 1:
            raise ConfigError(f"--num-workers must be an integer >= 1, got {self.num_workers}")
        if self.placement not in PLACEMENTS:
            raise ConfigError(
                f"--placement must be one of {', '.join(PLACEMENTS)}, got {self.placement!r}"
            )
        if self.max_failures < 0:
            raise ConfigError(f"--max-failures must be an integer >= 0, got {self.max_failures}")

    def cpus_per_worker(self, config: RunConfig) -> int:
        """Return the logical CPUs of a worker: one for each thread."""
        return max(config.training.num_threads, 1)

    def local_cpus(self, config: RunConfig) -> int:
        """Return the logical CPUs of a local cluster: half for workers, half for their actors."""
        return 2 * self.num_workers * self.cpus_per_worker(config)
