"""Spelling of options for hints in messages; text that is safe to print."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_in_python: ContextVar[bool] = ContextVar("in_python", default=False)


@contextmanager
def in_python() -> Iterator[None]:
    """Use the Python spelling of options in messages; also usable as a decorator.

    Otherwise messages use the spelling of the command line.
    """
    token = _in_python.set(True)
    try:
        yield
    finally:
        _in_python.reset(token)


def setting(name: str, value: object = None) -> str:
    """Return an option with its value: ``--time-unit ns``, in Python ``time_unit="ns"``.

    Args:
        name: Python name of the option.
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
"""Bidirectional controls, which can make a line look like a different one."""
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """Escape characters that a terminal would interpret rather than show; keep newlines.

    A binary file, or an id in a hostile file, must not clear the screen.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    unsafe = unicodedata.category(character) in _UNSAFE or character in _DIRECTIONS
    if not unsafe or character == "\n":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
