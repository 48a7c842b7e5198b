"""What the commands that use a trained run have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pres_dist.config.options import OptionParser
from pres_dist.errors import ConfigError

if TYPE_CHECKING:
    from pres_dist.use.live import LiveRun


def use_parser(name: str, arguments: str, description: str) -> OptionParser:
    """A parser with the folder of the run."""
    parser = OptionParser(
        prog=f"pres-dist {name}",
        usage=f"pres-dist {name} RUN {arguments}",
        description=description,
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    return parser


def add_columns(parser: argparse.ArgumentParser, of_times: str = "times") -> None:
    """Names of the columns of a file."""
    for name, default, of in (
        ("src", "src", "sources"),
        ("dst", "dst", "destinations"),
        ("time", "t", of_times),
    ):
        parser.add_argument(
            f"--{name}", metavar="COLUMN", default=default, help=f"column of {of} ({default})"
        )


def add_time(parser: argparse.ArgumentParser) -> None:
    """The time to stand at."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--at",
        metavar="TIME",
        help="as if it were this time: events strictly before it are seen; a number in the "
        "stream's unit, or an ISO 8601 time where the stream knows its unit",
    )
    group.add_argument(
        "--latest", action="store_true", help="after all events of the stream (the default)"
    )
    parser.add_argument(
        "--replay",
        action="store_true",
        help="rebuild the memory from the first event by the final weights: allows any time, "
        "and costs accuracy",
    )


def add_side(parser: argparse.ArgumentParser, ids: str) -> None:
    """Which side the ids of another option are of."""
    parser.add_argument(
        "--side",
        choices=("source", "destination"),
        help=f"what the ids of {ids} are, where an id may be either",
    )


def chosen_time(live: LiveRun, arguments: argparse.Namespace) -> int:
    """The time that the options name, checked."""
    from pres_dist.use.times import time_of

    if arguments.at is None:
        return live.latest
    t = time_of(live.stream, arguments.at, "--at")
    live.check_time(t, "--at")
    return t


def at_least_one(name: str, value: str | int) -> int:
    """A number of things; ConfigError unless it is an integer of at least 1."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"{name} must be an integer >= 1, got {value!r}")
    return number
