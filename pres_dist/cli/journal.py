"""`pres-dist journal RUN`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pres_dist.cli.options import Argument, RunOptions, parse
from pres_dist.errors import ConfigError

FIELDS = ("src", "dst", "t", "features", "label")


class JournalOptions(RunOptions):
    """List the events that `pres-dist serve` has ingested since the last extension.

    Each line is one JSON object. The number of an event never changes, even if others are dropped.
    """

    last: int | None = Field(None, ge=1)
    """List only the last N events."""
    verify: Annotated[bool, Argument(exclusive="action")] = False
    """Check that every event can be appended to the run."""
    drop: Annotated[str | None, Argument("NUMBERS", exclusive="action")] = None
    """Drop events from now on, such as 3,5-7; they and the reason stay in the file."""
    rescue: Annotated[bool, Argument(exclusive="action")] = False
    """Keep the intact records of a damaged journal, and a copy of the damaged file."""
    reason: Annotated[str | None, Argument("TEXT")] = None
    """Reason of --drop."""


def main(argv: list[str]) -> int:
    """List, verify, drop or rescue the events that a service has ingested."""
    options = parse("journal", JournalOptions, argv)
    if (options.drop is None) != (options.reason is None):
        raise ConfigError("command line: --drop needs --reason, and --reason needs --drop")
    if options.last is not None and (options.drop or options.verify or options.rescue):
        raise ConfigError("command line: --last is for the list of events alone")

    from pres_dist.inference.extend import JOURNAL
    from pres_dist.inference.journal import drop_events, read_journal, rescue_journal
    from pres_dist.inference.versions import EXTENDED
    from pres_dist.report.run_folder import read_config
    from pres_dist.report.run_lock import lock_run

    read_config(options.run)
    path = options.run / EXTENDED / JOURNAL
    if not path.exists():
        raise ConfigError(f"{path}: no service has taken in events since the last extension")
    if options.drop is not None and options.reason is not None:
        numbers = event_numbers(options.drop)
        if not options.reason.strip():
            raise ConfigError("--reason must say why, is empty")
        with lock_run(options.run):
            for number, row in drop_events(path, numbers, options.reason).items():
                print(f"left out: event {number}, {json.dumps(row)}")
    elif options.rescue:
        with lock_run(options.run):
            lost, aside = rescue_journal(path)
        lines = ", ".join(map(str, lost)) or "none"
        print(
            f"{path}: all intact records are kept; lost lines: {lines}; the damaged file is {aside}"
        )
    elif options.verify:
        _verify(options.run, path)
    else:
        contents = read_journal(path)
        numbers = list(contents.rows)
        for number in numbers[-options.last :] if options.last else numbers:
            event = {"number": number, **dict(zip(FIELDS, contents.rows[number], strict=True))}
            if number in contents.dropped:
                event["dropped"] = contents.dropped[number]
            print(json.dumps(event))
    return 0


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


def event_numbers(text: str) -> list[int]:
    """Return the numbers in a list such as 3,5-7, each once."""
    numbers: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        valid = first.isascii() and first.isdecimal() and (last.isdecimal() or not dash)
        low, high = (int(first), int(last or first)) if valid else (1, 0)
        if not low <= high < low + 1_000_000:
            raise ConfigError(f"--drop must be numbers of events, such as 3,5-7, got {text!r}")
        numbers |= dict.fromkeys(range(low, high + 1))
    return list(numbers)
