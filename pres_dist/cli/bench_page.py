"""`pres-dist bench page REPORT`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pres_dist.cli.bench_options import Commands
from pres_dist.errors import ConfigError
from pres_dist.files import user_path

SUMMARY = "the page of a scaling bench again, from its report.json"


def add_to(commands: Commands) -> None:
    """Add the subcommand to `pres-dist bench`."""
    parser = commands.add_parser("page", help=SUMMARY, description=SUMMARY.capitalize())
    parser.set_defaults(action=_page)
    described = "report.json of bench scaling, or the folder that it is in"
    parser.add_argument("report", metavar="REPORT", type=user_path, help=described)
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=user_path,
        default=Path("report.html"),
        help="default: report.html",
    )


def _page(arguments: argparse.Namespace) -> int:
    from pres_dist.bench.compared import read_scaling
    from pres_dist.bench.scaling.page import write_scaling_page

    report, out = read_scaling(arguments.report), arguments.out
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: the folder to write to does not exist")
    if not write_scaling_page(out, report):
        raise ConfigError("a page needs plotly and jinja2: pip install 'pres-dist[report]'")
    print(f"report: {out}")
    return 0
