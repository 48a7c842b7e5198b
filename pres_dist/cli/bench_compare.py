"""`pres-dist bench compare A B`."""

from __future__ import annotations

from typing import Annotated

from pres_dist.cli.options import Argument, UserPath, parse
from pres_dist.config.base import Config


class CompareOptions(Config):
    """Compare two reports: print what changed by more than noise."""

    before: Annotated[UserPath, Argument("A", positional=True)]
    """report.json of bench scaling or bench batch-size, or its folder."""
    after: Annotated[UserPath, Argument("B", positional=True)]
    """Another report of the same kind."""


def main(argv: list[str]) -> int:
    """Compare two reports: print what changed by more than noise."""
    options = parse("bench compare", CompareOptions, argv)

    from pres_dist.bench.compare import compare, comparison_lines
    from pres_dist.bench.read_reports import read_compared

    changes = compare(read_compared(options.before), read_compared(options.after))
    print("\n".join(comparison_lines(changes)))
    return 0
