"""`pres-dist bench ranking RUN ...`."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field

from pres_dist.cli.options import Argument, UserPath, parse
from pres_dist.cli.recommend import ranking_rows
from pres_dist.config.base import Config


class RankingOptions(Config):
    """Rank the destination of each test event of runs over one stream, beside baselines.

    It is ranked among all destinations, or, if there are more than 5,000, among 100 random and 100
    historical ones. Models and baselines read all events strictly before it.
    """

    runs: Annotated[list[UserPath], Argument("RUN", positional=True, many=True)]
    """Folder of a run."""
    max_events: int = Field(2000, ge=1)
    """Approximate number of test events to rank, spread evenly."""
    json_file: Annotated[UserPath | None, Argument("FILE", name="--json")] = None
    """Also write the results to this file."""


def main(argv: list[str]) -> int:
    """Measure hit@10 and MRR of runs over one stream, beside baselines."""
    options = parse("bench ranking", RankingOptions, argv)

    from pres_dist.bench.destination_ranks import rank_runs
    from pres_dist.cli.show_progress import show_progress
    from pres_dist.files import write_atomically
    from pres_dist.report.result_tables import aligned

    with show_progress("ranking") as report:
        ranked = rank_runs(options.runs, options.max_events, report)
    models = {f"{one['model']} ({one['run']})": one["ranked"][one["model"]] for one in ranked}
    baselines = dict(ranked[0]["ranked"])  # all runs share them
    del baselines[ranked[0]["model"]]
    print("\n".join(aligned(ranking_rows(models | baselines))))
    for one in ranked:
        print(
            f"{one['run']}: {one['num_events']:,} test events, {one['num_new']:,} of them between "
            f"a new pair, among {one['candidates']}; {one['seconds']:.1f} s"
        )
    if options.json_file is not None:
        write_atomically(options.json_file, json.dumps(ranked, indent=1) + "\n")
    return 0
