"""`pres-dist bench compare A B`."""

from __future__ import annotations

import argparse

from pres_dist.cli.bench_options import Commands
from pres_dist.files import user_path

SUMMARY = "two reports side by side: what changed beyond noise"


def add_to(commands: Commands) -> None:
    """Add the subcommand to `pres-dist bench`."""
    parser = commands.add_parser("compare", help=SUMMARY, description=SUMMARY.capitalize())
    parser.set_defaults(action=_compare)
    described = "report.json of bench scaling or bench batch-size, or the folder that it is in"
    parser.add_argument("before", metavar="A", type=user_path, help=described)
    parser.add_argument("after", metavar="B", type=user_path, help="another of the same kind")


def _compare(arguments: argparse.Namespace) -> int:
    from pres_dist.bench.compare import compare, comparison_lines
    from pres_dist.bench.compared import read_compared

    before, after = read_compared(arguments.before), read_compared(arguments.after)
    for line in comparison_lines(compare(before, after)):
        print(line)
    return 0
