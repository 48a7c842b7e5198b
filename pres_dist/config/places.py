"""Configuration fields that hold a path on this machine.

`~` is the home folder. A relative path is resolved against the current folder, then against the
folder of the file that contains it. A run stores it as an absolute path, so that the run can be
used from any folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel

from pres_dist.config.fields import Leaf, leaves
from pres_dist.config.source import Source

_MARK = "a place on this machine"


def _expanded(text: str | None) -> str | None:
    return None if text is None else os.path.expanduser(text)


Place = Annotated[str, AfterValidator(_expanded), _MARK]
OptionalPlace = Annotated[str | None, AfterValidator(_expanded), _MARK]

Model = TypeVar("Model", bound=BaseModel)


def find_beside_file(model: type[BaseModel], source: Source) -> None:
    """Resolve relative paths that do not exist here against the folder of the setting's file."""
    for leaf in _places(model):
        section = source.values
        for name in leaf.path[:-1]:
            section = section.get(name) if isinstance(section, dict) else None  # type: ignore
        value = section.get(leaf.path[-1]) if isinstance(section, dict) else None
        file = source.places.get(leaf.path, "").rpartition(":")[0]
        if not isinstance(value, str) or value == leaf.field.default or not file:
            continue
        beside = Path(file).parent / os.path.expanduser(value)
        if not os.path.exists(os.path.expanduser(value)) and beside.exists():
            section[leaf.path[-1]] = str(beside)


def with_absolute_places(config: Model) -> Model:
    """Return the configuration with existing paths made absolute."""
    for leaf in _places(type(config)):
        section: Any = config
        for name in leaf.path[:-1]:
            section = getattr(section, name)
        value = getattr(section, leaf.path[-1])
        if value and value != leaf.field.default and os.path.exists(value):
            config = _replaced(config, leaf.path, os.path.abspath(value))
    return config


def _replaced(config: Model, path: tuple[str, ...], value: str) -> Model:
    name, *rest = path
    new: Any = _replaced(getattr(config, name), tuple(rest), value) if rest else value
    return config.model_copy(update={name: new})


def _places(model: type[BaseModel]) -> list[Leaf]:
    return [leaf for leaf in leaves(model) if _MARK in leaf.field.metadata]
