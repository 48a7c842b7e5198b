"""Read configuration files: YAML with the line of every key, and `extends`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pres_dist.config.fields import KeyPath
from pres_dist.errors import ConfigError

EXTENDS = "extends"


@dataclass
class Source:
    """Unvalidated values, the place where each was set, and the problems found while reading."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    """Place where each key was last set, e.g. `run.yaml:12`."""
    problems: list[str] = field(default_factory=list)

    def put(self, other: Source) -> None:
        """Override the values here with `other`, key by key; an empty section changes nothing."""
        self.values = self._merged(self.values, other.values, ())
        self.places.update(other.places)
        self.problems.extend(other.problems)

    def place(self, path: KeyPath, default: str) -> str:
        """Return the place where `path`, or the innermost section around it, was set."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, default)

    def _merged(
        self, below: dict[str, Any], above: dict[str, Any], path: KeyPath
    ) -> dict[str, Any]:
        result = dict(below)
        for key, value in above.items():
            here, beneath = (*path, str(key)), result.get(key)
            if isinstance(beneath, dict) and isinstance(value, dict):
                result[key] = self._merged(beneath, value, here)
            elif not (isinstance(beneath, dict) and value is None):
                if isinstance(value, dict) and beneath is not None and here in self.places:
                    self._note_plain(here, beneath)
                result[key] = value
        return result

    def _note_plain(self, path: KeyPath, value: Any) -> None:
        """Record a plain value that another layer replaces by a section, so that it is not lost."""
        self.problems.append(
            f"{self.places[path]}: {'.'.join(path)} must hold `key: value` lines, "
            f"as it does elsewhere, got {value!r}"
        )


def read_source(path: Path, seen: tuple[Path, ...] = ()) -> Source:
    """Read the file at `path` and lay it over the file that it extends, if any.

    Raises:
        ConfigError: The file cannot be read, is not YAML, is not a mapping, or
            extends itself.
    """
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends itself by way of {_chain(seen)}")
    own = _parse(path)
    parent = own.values.pop(EXTENDS, None)
    if parent is None:
        return own
    if not isinstance(parent, str):
        raise ConfigError(f"{own.places[(EXTENDS,)]}: extends must be a path, got {parent!r}")
    source = read_source(path.parent / parent, (*seen, path.resolve()))
    source.put(own)
    return source


def _parse(path: Path) -> Source:
    text = _read_text(path)
    places: dict[KeyPath, str] = {}
    problems: list[str] = []
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        # An empty file and a lone `null` set nothing.
        values = (loader.construct_document(node) if node else None) or {}
        if isinstance(node, yaml.MappingNode):
            _note_places(node, str(path), (), places, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{place}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not usable YAML: nested too deeply") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines, got {type(values).__name__}")
    return Source(values, places, problems)


def _note_places(
    node: yaml.MappingNode,
    file: str,
    path: KeyPath,
    places: dict[KeyPath, str],
    problems: list[str],
) -> None:
    """Fill `places` with the line of every key; report duplicate keys as problems."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        inner = (*path, name)
        if name in seen:
            dotted = ".".join(inner)
            problems.append(f"{file}:{line}: {dotted} is already set in line {seen[name]}")
        seen[name] = line
        places[inner] = f"{file}:{line}"
        if isinstance(value, yaml.MappingNode):
            _note_places(value, file, inner, places, problems)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: a configuration file must be UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _chain(seen: tuple[Path, ...]) -> str:
    return " -> ".join(path.name for path in seen)
