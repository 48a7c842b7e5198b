"""Configuration of parallel training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pres_dist.config.base import Config

Handover = Literal["warm", "cold"]


class ParallelConfig(Config):
    """Layout of workers: slices x epochs x replicas; fewer workers compute several slices each."""

    slices: int | None = Field(None, ge=1)
    """Time slices of a temporal batch, one or several per worker; one per worker when null.
    A fixed number gives bit-identical results on any number of workers that divides it."""
    epochs: int = Field(1, ge=1)
    """Groups of workers that train on the same events, each with its own negatives."""
    replicas: int = Field(1, ge=1)
    """Copies of the memory, each of which sweeps its own segment of the training events."""
    handover: Handover = "warm"
    """Memory at the start of a segment: as the preceding segment left it an epoch ago, or empty."""
    timeout_s: float = Field(120.0, gt=0, le=1e9)
    """Seconds after which a worker or memory shard that does not respond is considered failed, and
    all workers restart from the newest checkpoint."""
