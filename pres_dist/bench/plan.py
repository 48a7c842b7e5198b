"""Expand a sweep into the configuration of each run."""

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
    """A cell of the results table: one stream, batch size and method."""

    stream: str
    batch_size: int
    method: str


@dataclass(frozen=True)
class Task(Job):
    """One run of a sweep.

    Attributes:
        tuned: settings from the tuning grid.
        config: the complete, resolved configuration.
    """

    cell: Cell
    seed: int
    tuned: Values
    config: RunConfig

    @cached_property
    def identity(self) -> str:
        """Identity of the computation: equal for tasks that compute the same."""
        return identity(self.config)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the computation: of the settings that differ from `_usual`.

        A setting that a later version adds therefore changes no fingerprint. In return, a run of
        an earlier version may share the fingerprint of a different run.
        """
        return digest_of(identity(self.config, exclude_usual=True))

    @property
    def label(self) -> str:
        """Readable name, e.g. `wikipedia-b800-none-s0`."""
        return f"{self.config.name}-s{self.seed}"

    @property
    def cost(self) -> float:
        """Relative time of the run; small batches take longer per event."""
        events = self.config.data.max_events or 1_000_000
        return self.config.training.epochs * events * (1 + 400 / self.cell.batch_size)


class Sweep:
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

    @property
    def base_batch(self) -> int:
        """Smallest temporal batch."""
        return min(self.config.batch_sizes)

    @property
    def cells(self) -> list[Cell]:
        """All cells, by stream, then batch, then method."""
        batches = sorted(self.config.batch_sizes)
        return [Cell(*parts) for parts in product(self.config.streams, batches, self.methods)]

    @property
    def grid(self) -> list[Values]:
        """Combinations that tuning tries; a single empty one without tuning."""
        grid = self.config.tuning.grid
        return [tuple(zip(grid, values, strict=True)) for values in product(*grid.values())]

    def against(self, method: str) -> str:
        """Return the method that `method` is compared with."""
        return self.methods[method].against or self.config.baseline

    def task(self, cell: Cell, seed: int, tuned: Values) -> Task:
        """Return the run of a cell with a seed and tuned values.

        Raises:
            ConfigError: The settings are not a valid configuration.
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
        """Return the layers of a method, starting with the method it is ultimately based on."""
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
    """Return the SHA-256 of a text in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def identity(config: RunConfig, exclude_usual: bool = False) -> str:
    """Return the settings that have an effect as JSON, without the name and the preset.

    Args:
        config: configuration of the run.
        exclude_usual: True to omit settings equal to `_usual`, so that a setting that a later
            version adds changes nothing.
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
    """Return the settings that fingerprints are relative to.

    Defaults may change. These values must not, or the fingerprints of existing runs change.
    """
    fixed = {
        "preset": "rates",
        "model.aggregator": "last",
        "training.learning_rate_scaling": "none",
        "training.learning_rate_decay": "none",
    }
    config = load_config(None, [f"--{name}={fixed[name]}" for name in fixed])
    return config.model_dump(mode="json", exclude={"name", "preset"})


def in_order(tasks: Iterable[Task], seeds: Sequence[int]) -> list[Task]:
    """Sort tasks by seed, then by cost, so that an unfinished sweep already has a full table."""
    return sorted(tasks, key=lambda task: (seeds.index(task.seed), task.cost))


def _nested(name: str, value: Any, place: str) -> Source:
    path = tuple(name.split("."))
    for part in reversed(path):
        value = {part: value}
    return Source(value, {path: place})
