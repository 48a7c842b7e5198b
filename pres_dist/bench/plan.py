"""From a sweep's file to the configuration of each of its runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from pres_dist.bench.config import Method, SweepConfig
from pres_dist.config.base import Config
from pres_dist.config.load import validated
from pres_dist.config.presets import with_preset
from pres_dist.config.run import RunConfig
from pres_dist.config.source import EXTENDS, Source, read_source
from pres_dist.errors import ConfigError

Values = tuple[tuple[str, Any], ...]
"""Settings by full name, e.g. `(("training.learning_rate", 0.002),)`."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class Cell:
    """What is compared: one row and column of the table."""

    stream: str
    batch_size: int
    method: str


@dataclass(frozen=True)
class Task:
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
    def digest(self) -> str:
        """Names what is computed: the settings that are not at their default, less the names.

        So a setting that a later version adds changes no digest.
        """
        settings = self.config.model_dump(
            mode="json", exclude_defaults=True, exclude={"name", "preset"}
        )
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def label(self) -> str:
        """For people, e.g. `wikipedia-b800-none-s0`."""
        return f"{self.config.name}-s{self.seed}"

    @property
    def key(self) -> str:
        """Name of the run's files: label and digest."""
        return f"{self.label}-{self.digest}"

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
        source = Source(RunConfig().model_dump())
        source.put(Source({"training": {"num_threads": 1}}))
        for layer in (("base",), ("streams", cell.stream), *self._lineage(cell.method)):
            source.put(with_preset(self._layers[layer]))
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
        batches = config.training.batch_size / method.equal_steps_to
        epochs = round(config.training.epochs * batches / steps_per_batch(config))
        epochs = max(1, min(method.max_epochs, epochs))
        training = config.training.model_copy(update={"epochs": epochs})
        return config.model_copy(update={"training": training})


def steps_per_batch(config: RunConfig) -> int:
    """Optimiser steps in a temporal batch."""
    events = getattr(config.training, "events_per_step", None) or config.training.batch_size
    return -(-config.training.batch_size // events)


def in_order(tasks: Iterable[Task], seeds: Sequence[int]) -> list[Task]:
    """Seed by seed, so that a sweep that is not finished has a table already; cheap ones first."""
    return sorted(tasks, key=lambda task: (seeds.index(task.seed), task.cost))


def load_sweep(path: Path) -> Sweep:
    """Read and check a sweep's file, and the configuration of every run in it.

    Raises:
        ConfigError: Lists every problem, one a line, with its place.
    """
    source = read_source(path)
    config = validated(SweepConfig, source, str(path))
    problems: dict[str, None] = dict.fromkeys(_naming_problems(config, path))
    methods: dict[str, Method] = {}
    layers: dict[tuple[str, ...], Source] = {
        ("streams", name): _layer(source, "streams", name) for name in config.streams
    }
    with _collected(problems):
        layers["base",] = _base(source, path)
    for name in config.methods:
        own, layers["methods", name] = _split(_layer(source, "methods", name), Method)
        with _collected(problems):
            methods[name] = validated(Method, own, f"{path}: methods.{name}")
    if len(methods) == len(config.methods):
        problems |= dict.fromkeys(_reference_problems(methods, path))
    if problems:
        raise ConfigError("\n".join(problems))
    sweep = Sweep(config, methods, layers, path)
    for cell, tuned in product(sweep.cells, sweep.grid):
        with _collected(problems):
            sweep.task(cell, config.seeds[0], tuned)
    if problems:
        raise ConfigError("\n".join(problems))
    return sweep


class _collected:
    """Keeps the lines of a ConfigError, each once, instead of raising it."""

    def __init__(self, problems: dict[str, None]) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, ConfigError):
            return False
        self._problems.update(dict.fromkeys(str(error).splitlines()))
        return True


def _naming_problems(config: SweepConfig, path: Path) -> Iterator[str]:
    for kind, names in (("streams", config.streams), ("methods", config.methods)):
        for name in names:
            if not all(c.isalnum() or c in "._" for c in name):
                yield f"{path}: {kind}: a name takes letters, digits, `.` and `_`, got {name!r}"
    if config.baseline not in config.methods:
        yield f"{path}: baseline must be one of {_list(config.methods)}, got {config.baseline!r}"
    for field in ("batch_sizes", "seeds"):
        values = getattr(config, field)
        if len(set(values)) < len(values):
            yield f"{path}: {field} must name each value once, got {values}"
    for name, values in config.tuning.grid.items():
        if not values:
            yield f"{path}: tuning.grid.{name} must list values to try, got none"


def _reference_problems(methods: Mapping[str, Method], path: Path) -> Iterator[str]:
    for name, method in methods.items():
        for field in ("like", "against"):
            other = getattr(method, field)
            if other is not None and other not in methods:
                yield (
                    f"{path}: methods.{name}.{field} must be one of {_list(methods)}, got {other!r}"
                )
        if _in_a_circle(name, methods):
            yield f"{path}: methods.{name}.like leads back to {name}"


def _in_a_circle(name: str, methods: Mapping[str, Method]) -> bool:
    """Whether following `like` from a method never ends."""
    seen: list[str | None] = []
    at: str | None = name
    while at is not None and at in methods and at not in seen:
        seen.append(at)
        at = methods[at].like
    return at in seen


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _base(source: Source, path: Path) -> Source:
    """The settings that all runs share, laid over the file that they extend, if any."""
    base = source.values.get("base") or {}
    own = _layer(source, "base") if isinstance(base, dict) else Source({EXTENDS: base})
    parent = own.values.pop(EXTENDS, None)
    if parent is None:
        return own
    below = read_source(path.parent / str(parent))
    below.put(own)
    return below


def _layer(source: Source, *path: str) -> Source:
    """What a file says at `path`, as a source of its own."""
    values: Any = source.values
    for name in path:
        values = values.get(name) or {}
    depth = len(path)
    places = {key[depth:]: place for key, place in source.places.items() if key[:depth] == path}
    return Source(dict(values), places)


def _split(layer: Source, model: type[Config]) -> tuple[Source, Source]:
    """A layer as the part that `model` has fields for, and the rest."""
    own = {name: value for name, value in layer.values.items() if name in model.model_fields}
    rest = {name: value for name, value in layer.values.items() if name not in own}
    return Source(own, layer.places), Source(rest, layer.places)


def _nested(name: str, value: Any, place: str) -> Source:
    path = tuple(name.split("."))
    for part in reversed(path):
        value = {part: value}
    return Source(value, {path: place})
