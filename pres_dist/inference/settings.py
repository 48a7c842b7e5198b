"""Configurations from Python arguments: a file, and settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pres_dist.config.fields import leaves
from pres_dist.config.load import load_config
from pres_dist.config.options import option
from pres_dist.config.run import RunConfig
from pres_dist.config.suggest import suggest
from pres_dist.errors import ConfigError
from pres_dist.files import user_path


def configured(config: RunConfig | str | Path | None, settings: Mapping[str, object]) -> RunConfig:
    """Return a configuration with some settings overridden.

    Args:
        config: a configuration, the path of a YAML file, or None for the defaults.
        settings: values of fields. Fields of `training`, and fields that only one section has,
            are given by name (`epochs`); others by section and name (`evaluation__batch_size`).

    Raises:
        ConfigError: a name is unknown or matches several fields, or a value is not valid.
    """
    overrides = [
        f"{option(_key(name))}={'null' if value is None else value}"
        for name, value in settings.items()
    ]
    if isinstance(config, RunConfig):
        return load_config(None, overrides, config)
    return load_config(None if config is None else user_path(config), overrides)


def _key(name: str) -> str:
    """Return the dotted key of a name."""
    keys = [leaf.key for leaf in leaves(RunConfig)]
    dotted = name.replace("__", ".")
    for exact in (dotted, f"training.{dotted}"):
        if exact in keys:
            return exact
    found = [key for key in keys if key.split(".")[-1] == dotted]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(key.replace(".", "__") for key in found)
        raise ConfigError(f"setting {name!r} may be any of {names}: write the one that is meant")
    hint = suggest(dotted, [*keys, *(key.split(".")[-1] for key in keys)])
    hint = hint.replace(".", "__") if hint.startswith("did you") else "--help of train lists all"
    raise ConfigError(f"unknown setting {name!r}; {hint}")
