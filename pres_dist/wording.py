"""Options as the user can give them, for hints in messages; text that is safe to print."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_in_python: ContextVar[bool] = ContextVar("in_python", default=False)


@contextmanager
def in_python() -> Iterator[None]:
    """Name options as Python has them; also a decorator of what a notebook calls.

    Elsewhere messages name them as the command line does.
    """
    token = _in_python.set(True)
    try:
        yield
    finally:
        _in_python.reset(token)


def setting(name: str, value: object = None) -> str:
    """Return how to give an option: ``--time-unit ns``, in Python ``time_unit="ns"``.

    Args:
        name: of the option, as Python has it.
        value: None for an option that is switched on.
    """
    if not _in_python.get():
        option = option_name(name)
        return option if value is None else f"{option} {shlex.quote(str(value))}"
    if value is None:
        return f"{name}=True"
    return f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}"


def option_name(name: str) -> str:
    """Return the name of an option: ``--feature-file``, in Python ``feature_file``."""
    return name if _in_python.get() else "--" + name.replace("_", "-")


_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional controls, which make a line read as another."""
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """Escape what a terminal would obey rather than show; new lines stay.

    A file that is no text, or an id of a hostile one, must not clear a screen.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    unsafe = unicodedata.category(character) in _UNSAFE or character in _DIRECTIONS
    if not unsafe or character == "\n":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
