"""Configuration of a sweep over temporal batch x method x seed, and the runs that it expands to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pres_dist.bench.job import Job
from pres_dist.config.base import Config, Seed
from pres_dist.config.load import nothing_set, validated
from pres_dist.config.presets import with_preset
from pres_dist.config.run import RunConfig
from pres_dist.config.source import Source
from pres_dist.training.step_sizes import updates_of_batch

Overrides = dict[str, Any]
Tuned = tuple[tuple[str, Any], ...]
"""Settings by full name, e.g. `(("training.learning_rate", 0.002),)`."""


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
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([200, 800, 3200, 12_800], min_length=1)
    """Events in a temporal batch; the smallest is the base batch."""
    methods: dict[str, Overrides | None] = Field(min_length=1)
    """Methods by name: run settings that each changes, and `like`, `against`, `equal_steps_to`."""
    baseline: str
    """Name of the method that all others are compared with."""
    seeds: list[Seed] = Field([0, 1, 2], min_length=1)
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


@dataclass(frozen=True)
class Cell:
    """A cell of the results table: one stream, batch size and method."""

    stream: str
    batch_size: int
    method: str


@dataclass(frozen=True)
class SweepRun(Job):
    """One run of a sweep.

    Attributes:
        tuned: settings from the tuning grid.
        config: the complete, resolved configuration.
    """

    cell: Cell
    seed: int
    tuned: Tuned
    config: RunConfig

    @property
    def label(self) -> str:
        """Readable name, e.g. `wikipedia-b800-none-s0`."""
        return f"{self.config.name}-s{self.seed}"

    @property
    def cost(self) -> float:
        """Relative time of the run; small batches take longer per event."""
        events = self.config.data.max_events or 1_000_000
        return self.config.training.epochs * events * (1 + 400 / self.cell.batch_size)


class SweepSpec:
    """A sweep with every run validated.

    Args:
        config: configuration of the sweep.
        methods: options of each method in addition to the settings of its runs.
        layers: settings of the base, of each stream and of each method.
        file: file of the sweep.
    """

    def __init__(
        self,
        config: SweepConfig,
        methods: Mapping[str, Method],
        layers: Mapping[tuple[str, ...], Source],
        file: Path,
    ) -> None:
        self.config, self.methods, self._layers, self._file = config, methods, layers, file
        self.sizes = sorted(config.batch_sizes)
        self.cells = [Cell(*parts) for parts in product(config.streams, self.sizes, config.methods)]
        grid = config.tuning.grid
        # Combinations that tuning tries; a single empty one without tuning.
        self.grid: list[Tuned] = [
            tuple(zip(grid, values, strict=True)) for values in product(*grid.values())
        ]

    @property
    def base_batch(self) -> int:
        """Smallest temporal batch."""
        return self.sizes[0]

    def against(self, method: str) -> str:
        """Return the method that `method` is compared with."""
        return self.methods[method].against or self.config.baseline

    def run(self, cell: Cell, seed: int, tuned: Tuned) -> SweepRun:
        """Return the run of a cell with a seed and tuned values.

        Raises:
            ConfigError: The settings are not a valid configuration.
        """
        lineage = [cell.method]  # the method, then those that it is based on
        while (like := self.methods[lineage[-1]].like) is not None:
            lineage.append(like)
        source = Source(nothing_set())
        # Runs share the machine's cores; any layer may set another number of threads.
        source.put(Source({"training": {"num_threads": 1}}))
        methods = (("methods", name) for name in reversed(lineage))
        for layer in (("base",), ("streams", cell.stream), *methods):
            source.put(with_preset(self._layers[layer], source))
        for name, value in tuned:
            path = tuple(name.split("."))
            for part in reversed(path):
                value = {part: value}
            source.put(Source(value, {path: f"{self._file}: tuning.grid"}))
        source.put(Source({"training": {"batch_size": cell.batch_size, "seed": seed}}))
        source.values["name"] = f"{cell.stream}-b{cell.batch_size}-{cell.method}"
        config = validated(RunConfig, source, str(self._file))
        return SweepRun(cell, seed, tuned, _with_equal_steps(config, self.methods[cell.method]))


def _with_equal_steps(config: RunConfig, method: Method) -> RunConfig:
    if method.equal_steps_to is None:
        return config
    training, batch = config.training, config.training.events_per_batch
    batches = batch / method.equal_steps_to
    epochs = round(training.epochs * batches / updates_of_batch(training, batch))
    epochs = max(1, min(method.max_epochs, epochs))
    return config.model_copy(update={"training": training.model_copy(update={"epochs": epochs})})
