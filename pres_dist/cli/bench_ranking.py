"""`pres-dist bench ranking RUN ...`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from pres_dist.cli.options import Argument, OutputFile, UserPath, WorkerOptions, parse
from pres_dist.errors import ConfigError


class RankingOptions(WorkerOptions):
    """Rank the destination of each test event of runs over one stream, beside baselines.

    It is ranked among all destinations, or, if there are more than 5,000, among 100 random and 100
    historical ones. Models and baselines read all events strictly before it.
    """

    runs: Annotated[list[UserPath], Argument("RUN", positional=True, many=True)]
    """Folder of a run."""
    max_events: int = Field(2000, ge=1)
    """Approximate number of test events to rank, spread evenly."""
    json_file: Annotated[OutputFile | None, Argument("FILE", name="--json")] = None
    """Also write the results to this file."""


def main(argv: list[str]) -> int:
    """Measure hit@10 and MRR of runs over one stream, beside baselines."""
    options = parse("bench ranking", RankingOptions, argv)

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.files import write_atomically
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.ranking import RunRanking, rank_run
    from pres_dist.report.result_tables import aligned

    ranked: list[RunRanking] = []
    for run_dir in options.runs:
        live = LiveRun(run_dir)
        if ranked and live.stream.name != ranked[0]["stream"]:
            raise ConfigError(
                f"{run_dir}: runs that are ranked together must be over one stream, "
                f"{ranked[0]['stream']}, got {live.stream.name}"
            )
        with options.sharing(live) as share, show_progress("ranking") as report:
            ranked.append(rank_run(live, options.max_events, report, share))
    models = {f"{one['model']} ({one['run']})": one["ranked"][one["model"]] for one in ranked}
    baselines = dict(ranked[0]["ranked"])  # all runs share them
    del baselines[ranked[0]["model"]]
    print("\n".join(aligned(_rows(models | baselines))))
    for one in ranked:
        print(
            f"{one['run']}: {one['num_events']:,} test events, {one['num_new']:,} of them between "
            f"a new pair, among {one['candidates']}; {one['seconds']:.1f} s"
        )
    if options.json_file is not None:
        write_atomically(options.json_file, json.dumps(ranked, indent=1) + "\n")
    return 0


def _rows(ranked: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return a table of the ranking metrics of models and baselines, over all and new pairs."""
    from pres_dist.report.result_tables import number

    rows = [["", "hit@10", "MRR", "new pairs: hit@10", "new pairs: MRR"]]
    for name, row in ranked.items():
        groups = (row, row["new_pairs"])
        rows.append([name, *(number(of.get(key)) for of in groups for key in ("hit@10", "mrr"))])
    return rows
