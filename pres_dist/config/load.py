"""Load a validated configuration from a YAML file and command-line overrides."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pres_dist.config.base import Config
from pres_dist.config.dump import dump_yaml
from pres_dist.config.fields import KeyPath, Leaf, leaves, section_model, with_article
from pres_dist.config.options import parse_overrides
from pres_dist.config.places import find_beside_file
from pres_dist.config.presets import with_preset
from pres_dist.config.run import RunConfig
from pres_dist.config.source import Source, read_source
from pres_dist.config.suggest import suggest_key
from pres_dist.errors import ConfigError

__all__ = ["dump_yaml", "load_config", "nothing_set", "validated"]

AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_config(
    path: Path | None, overrides: Sequence[str] = (), base: RunConfig | None = None
) -> RunConfig:
    """Return `base` overridden by the file at `path`, then by `overrides`.

    Args:
        path: YAML file, which may extend another one (`extends`); None for no file.
        overrides: As typed, e.g. `["--training.batch-size", "800"]`.
        base: Values of keys that neither of them sets; the defaults when None.

    Raises:
        ConfigError: Lists every problem, one per line, with its place.
    """
    source = _read(path) if path else Source()
    source.put(parse_overrides(RunConfig, overrides))
    below = Source(base.model_dump() if base else nothing_set())
    below.put(with_preset(source, below))
    return validated(RunConfig, below, str(path) if path else "configuration")


def nothing_set() -> dict[str, Any]:
    """Return all sections, empty.

    Defaults are left out because some of them depend on other settings.
    """
    fields = RunConfig.model_fields.items()
    return {name: {} for name, field in fields if section_model(field) is not None}


def _read(path: Path) -> Source:
    """Read the file; an error becomes a problem, so that wrong options are reported too."""
    try:
        return read_source(path)
    except ConfigError as error:
        return Source(problems=[str(error)])


def validated(model: type[AnyConfig], source: Source, default_place: str) -> AnyConfig:
    """Return the validated configuration that `source` holds.

    Args:
        model: Class of the configuration.
        source: Values, and where each was set.
        default_place: Place to report for a value of unknown place.

    Raises:
        ConfigError: Lists every problem, one per line, with its place.
    """
    problems = list(source.problems)
    find_beside_file(model, source)
    try:
        config = model.model_validate(source.values)
    except ValidationError as error:
        for problem in error.errors():
            path = tuple(str(part) for part in problem["loc"])
            problems.append(
                f"{source.place(path, default_place)}: {_describe(model, path, problem)}"
            )
    if problems:
        # Pydantic reports a value that fits no member of a union once for each member.
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return config


def _describe(model: type[Config], path: KeyPath, problem: Any) -> str:
    """Reword a pydantic error: which key, what is allowed, what was given."""
    key, got = ".".join(path), reprlib.repr(problem["input"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}; {suggest_key(model, path)}"
    if problem["type"] == "invalid_key":
        return f"keys must be text, got {key}"
    if problem["type"] == "model_type":
        return f"{key} must hold `key: value` lines, got {got}"
    if problem["type"] == "value_error":
        return ": ".join(part for part in (key, str(problem["ctx"]["error"])) if part)
    if problem["type"] == "missing":
        return f"{key} is missing"
    leaf = _leaf(model, path)
    if leaf is None:
        return f"{key} {problem['msg']}, got {got}"
    beyond = problem["loc"][len(leaf.path) :]  # an item of a list, or an alternative of a union
    item = "".join(f".{part}" for part in beyond if isinstance(part, int))
    return f"{leaf.key}{item} must be {with_article(leaf.allowed)}, got {got}"


def _leaf(model: type[Config], path: KeyPath) -> Leaf | None:
    """Return the field at `path`, or the field whose value `path` points into."""
    known = {leaf.path: leaf for leaf in leaves(model)}
    while path and path not in known:
        path = path[:-1]
    return known.get(path)
