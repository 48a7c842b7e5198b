"""Options shared by the commands that use a trained run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pres_dist.config.options import OptionParser
from pres_dist.errors import ConfigError
from pres_dist.events.import_config import delimiter_of
from pres_dist.files import user_path

if TYPE_CHECKING:
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.sharing import Share


def use_parser(name: str, arguments: str, description: str) -> OptionParser:
    """Return a parser with arguments for the run's folder and its stream."""
    parser = OptionParser(
        prog=f"pres-dist {name}",
        usage=f"pres-dist {name} RUN {arguments}",
        description=description,
    )
    parser.add_argument("run", metavar="RUN", type=user_path, help="folder of the run")
    add_stream(parser)
    return parser


def add_stream(parser: argparse.ArgumentParser) -> None:
    """Add the option for the current location of the run's stream."""
    parser.add_argument(
        "--data.stream",
        dest="stream",
        metavar="DIR",
        type=user_path,
        help="where the stream of the run is now, if it was moved; its events must be the same",
    )


def add_columns(parser: argparse.ArgumentParser, of_times: str = "times") -> None:
    """Add the options for the columns of a file."""
    for name, default, of in (
        ("src", "src", "sources"),
        ("dst", "dst", "destinations"),
        ("time", "t", of_times),
    ):
        parser.add_argument(
            f"--{name}", metavar="COLUMN", default=default, help=f"column of {of} ({default})"
        )

    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        type=delimiter_of,
        help="what separates the columns of a CSV file: a character, tab or space (a comma, or a "
        "tab where the header has one)",
    )


def add_max_ahead(parser: argparse.ArgumentParser) -> None:
    """Add the option that bounds the times of new events."""
    parser.add_argument(
        "--max-ahead",
        metavar="TIME",
        default="auto",
        help="how far after the run's last event the next may be: a number as times are "
        "written, 90d, 12h, 30m, 45s, 500ms, or none; auto allows 100 times the length of the "
        "stream, at least a year and until tomorrow, nothing after the year 9999, where the unit "
        "is known (auto)",
    )


def add_time(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the point in time."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--at",
        metavar="TIME",
        help="as if it were this time: events strictly before it are seen; a number as the import "
        "read numbers (--time-scale), or an ISO 8601 time where the stream has a known unit",
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


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options for the workers that share the work."""
    parser.add_argument(
        "--workers",
        metavar="N",
        default="1",
        help="processes that share the work; the result is the same, bit for bit (1)",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the workers are actors of this Ray cluster (auto: of the one of this machine)",
    )


def checked_workers(arguments: argparse.Namespace) -> int:
    """Return the number of workers; raise ConfigError for options that do not fit together."""
    workers = at_least_one("--workers", arguments.workers)
    if workers == 1 and arguments.address is not None:
        raise ConfigError("command line: --address needs --workers 2 or more, got 1")
    return workers


@contextmanager
def sharing(live: LiveRun, workers: int, address: str | None) -> Iterator[Share]:
    """Yield the workers of a command: this process alone, several processes, or Ray actors."""
    from pres_dist.inference.processes import Processes
    from pres_dist.inference.sharing import Alone

    if workers == 1:
        yield Alone(live)
    elif address is None:
        with Processes(live, workers) as processes:
            yield processes
    else:
        from pres_dist.inference.ray_actors import actors

        with actors(live, workers, address) as share:
            yield share


def add_side(parser: argparse.ArgumentParser, ids: str) -> None:
    """Add the option for the side, source or destination, of the ids of another option."""
    parser.add_argument(
        "--side",
        choices=("source", "destination"),
        help=f"what the ids of {ids} are, where an id may be either",
    )


def chosen_time(live: LiveRun, arguments: argparse.Namespace) -> int:
    """Return the time that the options select, after checking it."""
    from pres_dist.inference.times import time_of

    if arguments.at is None:
        return live.latest
    t = time_of(live.stream, arguments.at, "--at")
    live.check_time(t, "--at")
    return t


def at_least_one(name: str, value: str | int) -> int:
    """Return the value as an integer; raise ConfigError unless it is at least 1."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"{name} must be an integer >= 1, got {value!r}")
    return number
