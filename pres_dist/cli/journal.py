"""`pres-dist journal RUN`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import at_least_one, use_parser
from pres_dist.config.options import OptionParser, normalized
from pres_dist.errors import ConfigError

FIELDS = ("src", "dst", "t", "features", "label")


def main(argv: list[str]) -> int:
    """List, verify, drop or rescue the events that a service has taken in."""
    arguments = _parser().parse_args(normalized(argv))
    if (arguments.drop is None) != (arguments.reason is None):
        raise ConfigError("command line: --drop needs --reason, and --reason needs --drop")
    if arguments.last is not None and (arguments.drop or arguments.verify or arguments.rescue):
        raise ConfigError("command line: --last is for the list of events alone")

    from pres_dist.inference.extend import JOURNAL
    from pres_dist.inference.versions import EXTENDED
    from pres_dist.report.run_folder import read_config

    read_config(arguments.run)
    path = arguments.run / EXTENDED / JOURNAL
    if not path.exists():
        raise ConfigError(f"{path}: no service has taken in events since the last extension")
    with terminable():
        if arguments.drop is not None:
            _drop(arguments.run, path, _numbers(arguments.drop), arguments.reason)
        elif arguments.rescue:
            _rescue(arguments.run, path)
        elif arguments.verify:
            _verify(arguments.run, path)
        else:
            _list(path, arguments.last)
    return 0


def _list(path: Path, last: str | None) -> None:
    from pres_dist.inference.journal import read_journal

    contents = read_journal(path)
    numbers = list(contents.rows)
    for number in numbers if last is None else numbers[-at_least_one("--last", last) :]:
        event = {"number": number, **dict(zip(FIELDS, contents.rows[number], strict=True))}
        if number in contents.dropped:
            event["dropped"] = contents.dropped[number]
        print(json.dumps(event))


def _verify(run: Path, path: Path) -> None:
    from pres_dist.inference.journal import read_journal
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.serve.fold import check_rows

    contents = read_journal(path)
    kept = contents.kept
    check_rows(LiveRun(run), kept)
    torn = f"; {contents.torn} bytes of an incomplete last record" if contents.torn else ""
    print(
        f"{path}: {contents.num_events:,} events acknowledged, {len(kept):,} can be appended, "
        f"{contents.num_events - len(kept):,} are left out{torn}"
    )


def _drop(run: Path, path: Path, numbers: Sequence[int], reason: str) -> None:
    from pres_dist.inference.journal import drop_events
    from pres_dist.report.run_lock import lock_run

    if not reason.strip():
        raise ConfigError("--reason must say why, is empty")
    with lock_run(run):
        for number, row in drop_events(path, numbers, reason).items():
            print(f"left out: event {number}, {json.dumps(row)}")


def _rescue(run: Path, path: Path) -> None:
    from pres_dist.inference.journal import rescue_journal
    from pres_dist.report.run_lock import lock_run

    with lock_run(run):
        lost, aside = rescue_journal(path)
    lines = ", ".join(map(str, lost)) or "none"
    print(f"{path}: all whole records are kept; lost lines: {lines}; the damaged file is {aside}")


def _numbers(text: str) -> list[int]:
    """Return the numbers in a list such as 3,5-7."""
    wrong = ConfigError(f"--drop must be numbers of events, such as 3,5-7, got {text!r}")
    numbers: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isascii() or not first.isdecimal() or (dash and not last.isdecimal()):
            raise wrong
        low, high = int(first), int(last or first)
        if not low <= high < low + 1_000_000:
            raise wrong
        numbers |= dict.fromkeys(range(low, high + 1))
    return list(numbers)


def _parser() -> OptionParser:
    parser = use_parser(
        "journal",
        "[--last N | --verify | --drop NUMBERS --reason TEXT | --rescue]",
        "The events that `pres-dist serve` has taken in since the last extension, one JSON object "
        "a line. Their numbers stay the same, whatever is left out.",
    )
    parser.add_argument("--last", metavar="N", help="list the last N events alone")
    action: argparse._MutuallyExclusiveGroup = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--verify", action="store_true", help="check that every event can be appended to the run"
    )
    action.add_argument(
        "--drop",
        metavar="NUMBERS",
        help="leave events out from now on, such as 3,5-7; they and the reason stay in the file",
    )
    action.add_argument(
        "--rescue",
        action="store_true",
        help="of a damaged journal keep the records that are whole, and the damaged file beside it",
    )
    parser.add_argument("--reason", metavar="TEXT", help="with --drop: why")
    return parser
