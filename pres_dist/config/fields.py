"""Fields of a configuration class: full name, allowed values, help text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

KeyPath = tuple[str, ...]

_TYPE_NAMES = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true | false",
    type(None): "null",
}
_SIGNS = {
    annotated_types.Ge: (">=", "ge"),
    annotated_types.Gt: (">", "gt"),
    annotated_types.Le: ("<=", "le"),
    annotated_types.Lt: ("<", "lt"),
}


@dataclass(frozen=True)
class Leaf:
    """Field that holds a value, not a section of other fields."""

    path: KeyPath
    field: FieldInfo

    @property
    def key(self) -> str:
        """Full name of the field, e.g. `training.batch_size`."""
        return ".".join(self.path)

    @property
    def help(self) -> str:
        """Docstring of the field, on one line."""
        return " ".join((self.field.description or "").split())

    @property
    def allowed(self) -> str:
        """Description of the allowed values, e.g. `integer >= 1` or `mean | sample`."""
        bounds = " and ".join(text for part in self.field.metadata if (text := _bound(part)))
        kinds = [kind for kind in _alternatives(self.field.annotation) if kind is not type(None)]
        text = f"{' | '.join(_type_name(kind) for kind in kinds)} {bounds}".strip()
        return f"{text}, or null" if self.optional else text

    @property
    def optional(self) -> bool:
        """True if the field may be null."""
        return type(None) in _alternatives(self.field.annotation)

    @property
    def takes_text(self) -> bool:
        """True if the field accepts text, so that its value need not be parsed as YAML."""
        choices = [c for kind in _alternatives(self.field.annotation) for c in get_args(kind)]
        return str in _alternatives(self.field.annotation) or any(
            isinstance(choice, str) for choice in choices
        )


def leaves(model: type[BaseModel], path: KeyPath = ()) -> Iterator[Leaf]:
    """Yield every field that holds a value, depth first, in the order of definition."""
    for name, field in model.model_fields.items():
        inner = section_model(field)
        if inner is None:
            yield Leaf((*path, name), field)
        else:
            yield from leaves(inner, (*path, name))


def section_model(field: FieldInfo | None) -> type[BaseModel] | None:
    """Return the configuration class that a field holds, or None if it holds a value."""
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def section_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the configuration class at `path`, or None if there is none."""
    for name in path:
        inner = section_model(model.model_fields.get(name))
        if inner is None:
            return None
        model = inner
    return model


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself if it is not a union."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) is Annotated:
        inner, *metadata = get_args(kind)
        parts = [part for field in metadata for part in getattr(field, "metadata", [field])]
        return f"{_type_name(inner)} {' and '.join(filter(None, map(_bound, parts)))}".strip()
    if get_origin(kind) is list:
        return f"list of {_type_name(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "`name: ...` lines"
    return _TYPE_NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _bound(part: Any) -> str:
    """Return a bound or pattern as text, or "" for other metadata."""
    if type(part) in _SIGNS:
        sign, attribute = _SIGNS[type(part)]
        return f"{sign} {getattr(part, attribute)}"
    pattern = getattr(part, "pattern", None)
    return f"matching {pattern}" if pattern else ""


def with_article(allowed: str) -> str:
    """Return a description of allowed values for use after `must be`, e.g. `an integer >= 1`."""
    article = {"integer": "an ", "number": "a "}.get(allowed.split()[0], "")
    return f"{article}{allowed}"
