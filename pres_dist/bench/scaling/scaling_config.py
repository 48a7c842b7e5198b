"""Configuration of a scaling bench."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pres_dist.config.base import Config, Seed

Mode = Literal["strong", "weak"]
Launcher = Literal["torchrun", "ray"]
Positive = Annotated[int, Field(ge=1)]


class ScalingConfig(Config):
    """Numbers of workers x scaling modes x launchers, each with several seeds."""

    workers: list[Positive] = Field([1, 2], min_length=1)
    """Numbers of workers."""
    modes: list[Mode] = Field(["strong", "weak"], min_length=1)
    """strong: the configured temporal batch for all workers together; weak: for each worker."""
    launchers: list[Launcher] = Field(["torchrun"], min_length=1)
    """Launchers of the workers."""
    seeds: list[Seed] = Field([0, 1], min_length=1)
    """Values of training.seed."""
    repeats: int = Field(1, ge=1)
    """Number of runs of each seed."""
    targets: list[float] = Field([-0.01])
    """Validation AP to time; 0 or below is relative to the best that one worker reaches."""
    references: list[str] = Field([])
    """Further one-worker configurations to try, as NAME=VALUE,... of settings."""
