"""Configuration fields as command-line options, e.g. `--training.batch-size 800`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel

from pres_dist.config.dump import scalar
from pres_dist.config.fields import KeyPath, Leaf, leaves
from pres_dist.config.source import Source
from pres_dist.config.suggest import suggest
from pres_dist.errors import ConfigError

COMMAND_LINE = "command line"


class OptionParser(argparse.ArgumentParser):
    """Argument parser that raises ConfigError instead of exiting."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings
        )

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message and the usage."""
        usage = self.format_usage().strip()
        raise ConfigError(f"{COMMAND_LINE}: {message}\n{usage}\n`{self.prog} --help` lists all")


def add_overrides(
    parser: argparse.ArgumentParser, model: type[BaseModel], sections: Sequence[str] = ()
) -> None:
    """Add an option for each field of `model`; `overrides` collects the given ones.

    Args:
        parser: Parser to extend, with one group of options for each section.
        model: The configuration class.
        sections: Top-level sections to add options for; all when empty.
    """
    defaults = model().model_dump()
    groups: dict[KeyPath, argparse._ArgumentGroup] = {}
    for leaf in leaves(model):
        if sections and leaf.path[0] not in sections:
            continue
        section = leaf.path[:-1]
        if section not in groups:
            groups[section] = parser.add_argument_group(".".join(section) or "run")
        groups[section].add_argument(
            option(leaf.key),
            dest="overrides",
            action="append",
            type=partial(_assignment, option(leaf.key)),
            metavar="VALUE",
            help=_help(leaf, _value_at(defaults, leaf.path)),
        )


def _assignment(name: str, text: str) -> str:
    return f"{name}={text}"


def option(key: str) -> str:
    """Return the option for a key: `training.batch_size` -> `--training.batch-size`."""
    return "--" + key.replace("_", "-")


def normalized(arguments: Sequence[str]) -> list[str]:
    """Replace underscores by hyphens in the names of options; leave values unchanged."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            argument = f"{name.replace('_', '-')}{equals}{value}"
        result.append(argument)
    return result


def parse_overrides(model: type[BaseModel], arguments: Sequence[str]) -> Source:
    """Parse arguments such as `["--training.batch-size", "800"]`.

    Each unknown option becomes a problem of the returned source.
    """
    known = {option(leaf.key): leaf for leaf in leaves(model)}
    source = Source()
    pending = normalized(arguments)
    while pending:
        name, equals, text = pending.pop(0).partition("=")
        is_option = name.startswith("--")
        if is_option and not equals and pending and not pending[0].startswith("--"):
            equals, text = "=", pending.pop(0)
        if not is_option:
            source.problems.append(f"{COMMAND_LINE}: unexpected argument {name!r}")
        elif name not in known:
            problem = f"unknown option {name}; {_suggest_option(name, list(known))}"
            source.problems.append(f"{COMMAND_LINE}: {problem}")
        elif not equals:
            problem = f"{name} needs a value: {known[name].allowed}"
            source.problems.append(f"{COMMAND_LINE}: {problem}")
        else:
            _set(source, known[name], text)
    return source


def _set(source: Source, leaf: Leaf, text: str) -> None:
    section = source.values
    for name in leaf.path[:-1]:
        section = section.setdefault(name, {})
    section[leaf.path[-1]] = _value(leaf, text)
    source.places[leaf.path] = COMMAND_LINE


def _value(leaf: Leaf, text: str) -> Any:
    """Parse `text` as the value of a field; the configuration class validates it."""
    if leaf.optional and text.lower() in ("none", "null"):
        return None
    if leaf.takes_text:
        return text
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
    # YAML reads an empty text as null; here it is more likely a shell variable that is not set.
    return text if value is None else value


def _suggest_option(name: str, known: list[str]) -> str:
    """Return a hint: an option of the same name in another section, or of a similar name."""
    same = [option for option in known if option.split(".")[-1] == name.lstrip("-")]
    if same:
        return f"did you mean `{same[0]}`?"
    hint = suggest(name, known)
    return hint if hint.startswith("did you") else "--help lists all"


def _help(leaf: Leaf, default: Any) -> str:
    return f"{leaf.help} ({leaf.allowed}; default {scalar(default)})".replace("%", "%%")


def _value_at(values: dict[str, Any], path: KeyPath) -> Any:
    for name in path:
        values = values[name]
    return values
