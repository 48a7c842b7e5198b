"""Read a sweep's file and report all its errors at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from pres_dist.bench.sweep_spec import Method, SweepConfig, SweepSpec
from pres_dist.config.load import validated
from pres_dist.config.source import EXTENDS, Source, read_source
from pres_dist.errors import ConfigError


def load_sweep(path: Path) -> SweepSpec:
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
        layer = _layer(source, "methods", name)
        own = {key: value for key, value in layer.values.items() if key in Method.model_fields}
        rest = {key: value for key, value in layer.values.items() if key not in own}
        layers["methods", name] = Source(rest, layer.places)
        with _collected(problems):
            place = f"{path}: methods.{name}"
            methods[name] = validated(Method, Source(own, layer.places), place)
    # References are checked only if every method is valid; otherwise they would name a missing one.
    if len(methods) == len(config.methods):
        problems |= dict.fromkeys(_reference_problems(methods, path))
    if problems:
        raise ConfigError("\n".join(problems))
    sweep = SweepSpec(config, methods, layers, path)
    for cell, tuned in product(sweep.cells, sweep.grid):
        with _collected(problems):
            sweep.run(cell, config.seeds[0], tuned)
    if problems:
        raise ConfigError("\n".join(problems))
    return sweep


@contextmanager
def _collected(problems: dict[str, None]) -> Iterator[None]:
    """Collect the distinct lines of a ConfigError instead of raising it."""
    try:
        yield
    except ConfigError as error:
        problems.update(dict.fromkeys(str(error).splitlines()))


def _naming_problems(config: SweepConfig, path: Path) -> Iterator[str]:
    for kind, names in (("streams", config.streams), ("methods", config.methods)):
        for name in names:
            if not all(c.isalnum() or c in "._" for c in name):
                yield f"{path}: {kind}: a name takes letters, digits, `.` and `_`, got {name!r}"
    if config.baseline not in config.methods:
        allowed = ", ".join(config.methods)
        yield f"{path}: baseline must be one of {allowed}, got {config.baseline!r}"
    for field in ("batch_sizes", "seeds"):
        values = getattr(config, field)
        if len(set(values)) < len(values):
            yield f"{path}: {field} must name each value once, got {values}"
    for name, values in config.tuning.grid.items():
        if not values:
            yield f"{path}: tuning.grid.{name} must list values to try, got none"


def _reference_problems(methods: Mapping[str, Method], path: Path) -> Iterator[str]:
    allowed = ", ".join(methods)
    for name, method in methods.items():
        for field in ("like", "against"):
            other = getattr(method, field)
            if other is not None and other not in methods:
                place = f"{path}: methods.{name}.{field}"
                yield f"{place} must be one of {allowed}, got {other!r}"
        followed, at = {name}, method.like
        while at is not None and at in methods and at not in followed:
            followed.add(at)
            at = methods[at].like
        if at in followed:
            yield f"{path}: methods.{name}.like leads back to {name}"


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
