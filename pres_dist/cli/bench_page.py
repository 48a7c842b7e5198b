"""`pres-dist bench page REPORT`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pres_dist.cli.options import Argument, OutputFile, UserPath, parse
from pres_dist.config.base import Config
from pres_dist.errors import MissingPackageError


class PageOptions(Config):
    """Write the page of a scaling bench again, from its report.json."""

    report: Annotated[UserPath, Argument("REPORT", positional=True)]
    """report.json of bench scaling, or its folder."""
    out: Annotated[OutputFile, Argument("FILE")] = Path("report.html")
    """Page to write."""


def main(argv: list[str]) -> int:
    """Write the page of a scaling bench again, from its report.json."""
    options = parse("bench page", PageOptions, argv)

    from pres_dist.bench.read_reports import read_scaling
    from pres_dist.bench.scaling.scaling_page import write_scaling_page

    report, out = read_scaling(options.report), options.out
    if not write_scaling_page(out, report):
        raise MissingPackageError("a page", "plotly and jinja2", "report")
    print(f"report: {out}")
    return 0
