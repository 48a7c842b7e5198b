"""`pres-dist bench ranking RUN ...`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pres_dist.cli.bench_options import Commands, positive

SUMMARY = "hit@10 and MRR of runs over one stream, beside baselines"


def add_to(commands: Commands) -> None:
    """Add the subcommand to `pres-dist bench`."""
    parser = commands.add_parser(
        "ranking",
        help=SUMMARY,
        description=f"{SUMMARY[:1].upper()}{SUMMARY[1:]}: the destination of each test event among "
        "all destinations, or, where there are more than 5,000, among 100 random and 100 "
        "historical ones. Models and baselines read all events strictly before it.",
    )
    parser.set_defaults(action=_ranking)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder of a run")
    parser.add_argument(
        "--max-events",
        metavar="N",
        type=positive,
        default=2000,
        help="rank about so many test events, spread evenly (default 2,000)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures there")


def _ranking(arguments: argparse.Namespace) -> int:
    from pres_dist.bench.ranking import rank_runs
    from pres_dist.cli.data_progress import show_progress
    from pres_dist.files import write_atomically
    from pres_dist.report.comparison import aligned

    with show_progress("ranking") as report:
        ranked = rank_runs(arguments.runs, arguments.max_events, report)
    print("\n".join(aligned(_rows(ranked))))
    for one in ranked:
        print(
            f"{one['run']}: {one['num_events']:,} test events, {one['num_new']:,} of them between "
            f"a new pair, among {one['candidates']}; {one['seconds']:.1f} s"
        )
    if arguments.json is not None:
        write_atomically(arguments.json, json.dumps(ranked, indent=1) + "\n")
    return 0


def _rows(ranked: list[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each model and one for each baseline; all runs share the baselines."""
    from pres_dist.report.progress import number

    rows = [["", "hit@10", "MRR", "new pairs: hit@10", "new pairs: MRR"]]
    baselines = {
        name: row for name, row in ranked[0]["ranked"].items() if name != ranked[0]["model"]
    }
    models = {f"{one['model']} ({one['run']})": one["ranked"][one["model"]] for one in ranked}
    for name, row in (models | baselines).items():
        groups = (row, row["new_pairs"])
        rows.append([name, *(number(of.get(key)) for of in groups for key in ("hit@10", "mrr"))])
    return rows
