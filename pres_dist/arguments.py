"""Argument checks for the Python API: a wrong call raises an ArgumentError that names one.

Imports nothing heavy.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pres_dist.errors import ArgumentError
from pres_dist.files import local_path
from pres_dist.wording import in_python

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


def checked_call(function: Function) -> Function:
    """Wrap a function so that missing or unknown arguments raise ArgumentError.

    Messages use the Python spelling of options.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            known = ", ".join(name for name in signature.parameters if name not in ("self", "cls"))
            name = function.__qualname__.removesuffix(".__init__").split(".")[-1]
            raise ArgumentError(f"{name}(): {error}; its arguments are {known}") from None
        with in_python():
            return function(*args, **kwargs)

    return cast("Function", call)


def checked_init(cls: Class) -> Class:
    """Apply `checked_call` to the constructor of a dataclass."""
    cls.__init__ = checked_call(cls.__init__)  # type: ignore[misc]
    return cls


def flag(name: str, value: object) -> bool:
    """Return a bool; refuse values that are merely truthy or falsy."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise ArgumentError(f"{name} must be True or False, got {_shown(value)}")
    return bool(value)


def path(name: str, value: object) -> Path:
    """Return a string or path as a local path."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise ArgumentError(f"{name} must be a path, got {_shown(value)}")
    return local_path(os.fsdecode(value))


def column(name: str, value: object) -> str:
    """Return the name of a column as a string."""
    if value is None or isinstance(value, (list, dict, set)):
        raise ArgumentError(f"{name} must be the name of a column, got {_shown(value)}")
    return str(value)


def items(name: str, value: object, of: str) -> list[Any]:
    """Return the values of a list, tuple or array; refuse strings, dicts and sets."""
    if isinstance(value, (str, bytes, Mapping, set, frozenset)) or not isinstance(value, Iterable):
        raise ArgumentError(f"{name} must be a list of {of}, got {_shown(value)}")
    try:
        return list(value)
    except TypeError:  # an array without dimensions
        raise ArgumentError(f"{name} must be a list of {of}, got {_shown(value)}") from None


def count(name: str, value: object, least: int = 1) -> int:
    """Return an integer of at least `least`."""
    whole = hasattr(value, "__index__") and type(value).__name__ not in ("bool", "bool_")
    if not whole or (number := cast("int", value).__index__()) < least:
        raise ArgumentError(f"{name} must be an integer >= {least}, got {_shown(value)}")
    return number


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ArgumentError unless the value is one of the allowed values."""
    if not any(value is one or (isinstance(value, str) and value == one) for one in allowed):
        known = ", ".join(repr(one) for one in allowed)
        raise ArgumentError(f"{name} must be one of {known}, got {_shown(value)}")


def kind(name: str, value: object, of: type | tuple[type, ...], what: str) -> None:
    """Raise ArgumentError unless the value is an instance of a class."""
    if not isinstance(value, of):
        raise ArgumentError(f"{name} must be {what}, got {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, (str, int, float, bool)) or value is None:
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
