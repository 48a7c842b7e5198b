"""How workers share the work of training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config

Handover = Literal["warm", "cold"]


class ParallelConfig(Config):
    """Time slices x epochs x replicas = workers; or fewer workers, with several slices each."""

    slices: int | None = Field(None, ge=1)
    """Time slices of a temporal batch, one or several a worker; as many as workers when null.
    A fixed number gives the same bits on any number of workers that divides it."""
    epochs: int = Field(1, ge=1)
    """Groups of workers that train on the same events, each with negatives of its own."""
    replicas: int = Field(1, ge=1)
    """Copies of the memory, each sweeping a segment of the training events of its own."""
    handover: Handover = "warm"
    """What a segment starts from: memory that the one before ended with an epoch ago, or none."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds after which a worker or memory shard that does not answer is given up, and all
    workers start again from the newest checkpoint."""
