"""Read a sweep's file and report all its errors at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from pres_dist.bench.config import Method, SweepConfig
from pres_dist.bench.plan import Sweep
from pres_dist.config.base import Config
from pres_dist.config.load import validated
from pres_dist.config.source import EXTENDS, Source, read_source
from pres_dist.errors import ConfigError


def load_sweep(path: Path) -> Sweep:
    """Read and check a sweep's file, and the configuration of every run in it.

    Raises:
        ConfigError: Lists every problem with its location, one per line.
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
    """Context manager that collects the distinct lines of a ConfigError instead of raising it."""

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
    """Return True if following `like` from a method never ends."""
    seen: list[str | None] = []
    at: str | None = name
    while at is not None and at in methods and at not in seen:
        seen.append(at)
        at = methods[at].like
    return at in seen


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _base(source: Source, path: Path) -> Source:
    """Return the settings that all runs share, applied over the file that they extend, if any."""
    base = source.values.get("base") or {}
    own = _layer(source, "base") if isinstance(base, dict) else Source({EXTENDS: base})
    parent = own.values.pop(EXTENDS, None)
    if parent is None:
        return own
    below = read_source(path.parent / str(parent))
    below.put(own)
    return below


def _layer(source: Source, *path: str) -> Source:
    """Return the section of a file at `path` as a separate source."""
    values: Any = source.values
    for name in path:
        values = values.get(name) or {}
    depth = len(path)
    places = {key[depth:]: place for key, place in source.places.items() if key[:depth] == path}
    return Source(dict(values), places)


def _split(layer: Source, model: type[Config]) -> tuple[Source, Source]:
    """Split a layer into the settings that `model` has fields for, and the rest."""
    own = {name: value for name, value in layer.values.items() if name in model.model_fields}
    rest = {name: value for name, value in layer.values.items() if name not in own}
    return Source(own, layer.places), Source(rest, layer.places)
