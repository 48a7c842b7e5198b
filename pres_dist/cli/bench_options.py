"""Option types and constants shared by the subcommands of `pres-dist bench`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pres_dist.config.options import OptionParser

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[OptionParser]
else:
    Commands = object

UNFINISHED = 1
"""Exit code if any run has not finished."""

Item = TypeVar("Item")


def positive(text: str) -> int:
    """Parse an integer >= 1; argparse reports the error for any other text."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text}")
    return int(text)


def natural(text: str) -> int:
    """Parse an integer >= 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer >= 0, got {text}")
    return int(text)


def number(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, got {text}")
    return value


def listed(of: Callable[[str], Item]) -> Callable[[str], list[Item]]:
    """Return a parser of distinct values separated by commas."""

    def parse(text: str) -> list[Item]:
        values = [of(part.strip()) for part in text.split(",")]
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"must name each value once, got {text}")
        return values

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    """Return a parser that accepts one of these names."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(names)}, got {text!r}")
        return text

    return parse
