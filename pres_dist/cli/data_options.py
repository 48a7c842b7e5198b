"""Command-line options for the fields of a flat configuration class."""

from __future__ import annotations

import argparse
from typing import TypeVar

from pydantic import ValidationError

from pres_dist.config.base import Config
from pres_dist.config.fields import Leaf, leaves
from pres_dist.config.options import COMMAND_LINE, option
from pres_dist.errors import ConfigError

AnyConfig = TypeVar("AnyConfig", bound=Config)


def add_fields(
    parser: argparse.ArgumentParser, model: type[Config], positional: str | None = None
) -> None:
    """Add an option for each field, required if the field has no default."""
    for leaf in leaves(model):
        help_text = _help(leaf).replace("%", "%%")
        if leaf.key == positional:
            parser.add_argument(leaf.key, metavar=leaf.key.upper(), help=help_text)
        elif leaf.field.annotation is bool:
            parser.add_argument(
                option(leaf.key), action="store_true", default=argparse.SUPPRESS, help=help_text
            )
        else:
            parser.add_argument(
                option(leaf.key),
                metavar="VALUE",
                required=leaf.field.is_required(),
                default=argparse.SUPPRESS,
                help=help_text,
            )


def build(model: type[AnyConfig], arguments: argparse.Namespace) -> AnyConfig:
    """Return the configuration that the options describe; ``ConfigError`` for a bad value."""
    values = {name: value for name, value in vars(arguments).items() if name in model.model_fields}
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        allowed = next(leaf.allowed for leaf in leaves(model) if leaf.key == name)
        reason = str(first["msg"]).removeprefix("Value error, must be ")
        allowed = reason if first["type"] == "value_error" else allowed
        raise ConfigError(
            f"{COMMAND_LINE}: {option(name)} must be {allowed}, got {first['input']!r}"
        ) from None


def _help(leaf: Leaf) -> str:
    if leaf.field.is_required() or leaf.field.annotation is bool:
        return leaf.help
    default = leaf.field.get_default(call_default_factory=True)
    shown = "" if default in (None, "", []) else f"; default {default}"
    return leaf.help + f" ({leaf.allowed}{shown})"
