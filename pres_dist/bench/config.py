"""Configuration of a sweep over temporal batch x method x seed, and of its evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pres_dist.config.base import Config

Overrides = dict[str, Any]
Positive = Annotated[int, Field(ge=1)]


class TuningConfig(Config):
    """Tuning with the same search for every method: the whole grid with the first seed.

    The values with the best validation AP are then used for all seeds.
    """

    grid: dict[str, list[Any]] = Field({})
    """Values to try by setting, e.g. `training.learning_rate: [0.001, 0.002]`; empty: no tuning."""
    per: Literal["cell", "method"] = "cell"
    """cell: choose for each stream, batch and method. method: choose once for each method, by its
    mean over all cells."""


class SweepConfig(Config):
    """One sweep: streams x temporal batches x methods x seeds."""

    name: str = Field("batch-size", pattern=r"^[A-Za-z0-9._-]+$")
    """Title of the report, and name of the default output folder."""
    base: str | Overrides = Field({})
    """Configuration of every run: path of a file (from the sweep's folder), or its settings."""
    streams: dict[str, Overrides | None] = Field(min_length=1)
    """Data sets by name, each with the run settings that it changes."""
    batch_sizes: list[Positive] = Field([200, 800, 3200, 12_800], min_length=1)
    """Events in a temporal batch; the smallest is the base batch."""
    methods: dict[str, Overrides | None] = Field(min_length=1)
    """Methods by name: run settings that each changes, and `like`, `against`, `equal_steps_to`."""
    baseline: str
    """Name of the method that all others are compared with."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0, 1, 2], min_length=1)
    """Values of training.seed, in the order of running."""
    tuning: TuningConfig = TuningConfig()
    tolerance: float = Field(0.003, ge=0)
    """Largest loss of AP that counts as no loss."""
    targets: list[float] = Field([])
    """Validation AP to time; 0 or below is relative to the baseline at the base batch."""
    goal_batch: int = Field(2_000, ge=1)
    """Smallest batch at which methods are expected to reach at least the baseline."""


class Method(Config):
    """Options of a method in addition to the settings of its runs."""

    like: str | None = None
    """Another method, whose settings this one starts from."""
    against: str | None = None
    """The method that this one is compared with; the sweep's baseline when unset."""
    equal_steps_to: int | None = Field(None, ge=1)
    """Scale the epochs so that a run takes as many optimizer steps as with this batch."""
    max_epochs: int = Field(1_000, ge=1)
    """Largest number of epochs that `equal_steps_to` may ask for."""
