"""From a sweep's file to the configuration of each of its runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

from pres_dist.bench.config import Method, SweepConfig
from pres_dist.bench.job import Job
from pres_dist.config.ineffective import idle_settings
from pres_dist.config.load import load_config, nothing_set, validated
from pres_dist.config.presets import with_preset
from pres_dist.config.run import RunConfig
from pres_dist.config.source import Source
from pres_dist.training.step_sizes import updates_of_batch

Values = tuple[tuple[str, Any], ...]
"""Settings by full name, e.g. `(("training.learning_rate", 0.002),)`."""


@dataclass(frozen=True)
class Cell:
    """What is compared: one row and column of the table."""

    stream: str
    batch_size: int
    method: str


@dataclass(frozen=True)
class Task(Job):
    """One run of a sweep.

    Attributes:
        tuned: what the grid of the tuning adds.
        config: the whole configuration, resolved.
    """

    cell: Cell
    seed: int
    tuned: Values
    config: RunConfig

    @cached_property
    def identity(self) -> str:
        """What is computed: tasks that compute the same have the same."""
        return identity(self.config)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what is computed: of the settings that are not as usual.

        So a setting that a later version adds changes no fingerprint. In return, runs that
        differ may share one, where one of them is of an earlier version.
        """
        return digest_of(identity(self.config, exclude_usual=True))

    @property
    def label(self) -> str:
        """For people, e.g. `wikipedia-b800-none-s0`."""
        return f"{self.config.name}-s{self.seed}"

    @property
    def cost(self) -> float:
        """Relative time of the run; small batches take longer an event."""
        events = self.config.data.max_events or 1_000_000
        return self.config.training.epochs * events * (1 + 400 / self.cell.batch_size)


class Sweep:
    """A sweep whose every run has been checked.

    Args:
        config: the sweep.
        methods: what each method says besides the settings of its runs.
        layers: settings of the base, of each stream and of each method.
        file: where they come from.
    """

    def __init__(
        self,
        config: SweepConfig,
        methods: Mapping[str, Method],
        layers: Mapping[tuple[str, ...], Source],
        file: Path,
    ) -> None:
        self.config, self.methods, self._layers, self._file = config, methods, layers, file

    @property
    def base_batch(self) -> int:
        """The smallest batch."""
        return min(self.config.batch_sizes)

    @property
    def cells(self) -> list[Cell]:
        """Every cell, by stream, then batch, then method."""
        batches = sorted(self.config.batch_sizes)
        return [Cell(*parts) for parts in product(self.config.streams, batches, self.methods)]

    @property
    def grid(self) -> list[Values]:
        """The combinations that tuning tries; one empty one where there is no tuning."""
        grid = self.config.tuning.grid
        return [tuple(zip(grid, values, strict=True)) for values in product(*grid.values())]

    def against(self, method: str) -> str:
        """The method that `method` is compared with."""
        return self.methods[method].against or self.config.baseline

    def task(self, cell: Cell, seed: int, tuned: Values) -> Task:
        """The run of a cell, a seed and tuned values.

        Raises:
            ConfigError: The settings do not make a configuration.
        """
        source = Source(nothing_set())
        source.put(Source({"training": {"num_threads": 1}}))
        for layer in (("base",), ("streams", cell.stream), *self._lineage(cell.method)):
            source.put(with_preset(self._layers[layer], source))
        for name, value in tuned:
            source.put(_nested(name, value, f"{self._file}: tuning.grid"))
        source.put(Source({"training": {"batch_size": cell.batch_size, "seed": seed}}))
        source.values["name"] = f"{cell.stream}-b{cell.batch_size}-{cell.method}"
        config = validated(RunConfig, source, str(self._file))
        return Task(cell, seed, tuned, self._with_equal_steps(config, self.methods[cell.method]))

    def _lineage(self, method: str) -> list[tuple[str, ...]]:
        """The layers of a method, those that it builds upon first."""
        chain = [method]
        while (like := self.methods[chain[-1]].like) is not None:
            chain.append(like)
        return [("methods", name) for name in reversed(chain)]

    def _with_equal_steps(self, config: RunConfig, method: Method) -> RunConfig:
        if method.equal_steps_to is None:
            return config
        training, batch = config.training, config.training.events_per_batch
        batches = batch / method.equal_steps_to
        epochs = round(training.epochs * batches / updates_of_batch(training, batch))
        epochs = max(1, min(method.max_epochs, epochs))
        own = training.model_copy(update={"epochs": epochs})
        return config.model_copy(update={"training": own})


def digest_of(text: str) -> str:
    """Its SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def identity(config: RunConfig, exclude_usual: bool = False) -> str:
    """The settings that have an effect, as JSON; without names for the whole.

    Args:
        config: the settings.
        exclude_usual: leave out those that are as they usually are, so that a setting that
            a later version adds changes nothing.
    """
    settings = config.model_dump(mode="json", exclude={"name", "preset"})
    for name in idle_settings(config):
        section, field = name.split(".")
        settings[section].pop(field, None)
    if exclude_usual:
        for section, usual in _usual().items():
            fields = settings.pop(section)
            unusual = {name: fields[name] for name in fields if fields[name] != usual[name]}
            settings |= {section: unusual} if unusual else {}
    return json.dumps(settings, sort_keys=True)


@cache
def _usual() -> dict[str, dict[str, Any]]:
    """What fingerprints are relative to. Defaults may change; this may not, or runs are lost."""
    fixed = {
        "preset": "rates",
        "model.aggregator": "last",
        "training.learning_rate_scaling": "none",
        "training.learning_rate_decay": "none",
    }
    config = load_config(None, [f"--{name}={fixed[name]}" for name in fixed])
    return config.model_dump(mode="json", exclude={"name", "preset"})


def in_order(tasks: Iterable[Task], seeds: Sequence[int]) -> list[Task]:
    """Seed by seed, so that a sweep that is not finished has a table already; cheap ones first."""
    return sorted(tasks, key=lambda task: (seeds.index(task.seed), task.cost))


def _nested(name: str, value: Any, place: str) -> Source:
    path = tuple(name.split("."))
    for part in reversed(path):
        value = {part: value}
    return Source(value, {path: place})
