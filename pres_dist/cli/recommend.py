"""`pres-dist recommend RUN --src ID`, and `--evaluate`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pres_dist.cli.options import (
    Argument,
    LocalPath,
    Order,
    RunOptions,
    TimeOptions,
    WorkerOptions,
    parse,
)
from pres_dist.config.options import option
from pres_dist.errors import ConfigError
from pres_dist.wording import printable

if TYPE_CHECKING:
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.recommend import Recommendation

RANKING = "ranking.json"
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".json")
OF_SOURCES = ("src", "sources", "at", "latest", "exclude_seen", "out", "top", "order")
"""Options that --evaluate excludes."""


class RecommendOptions(WorkerOptions, TimeOptions, RunOptions):
    """Rank the most likely destinations of sources at a time.

    --evaluate measures the rank of the true destination among all of them over the test split.
    """

    src: Annotated[list[str], Argument("ID", many=True)] = Field(default=[])
    """A source; may be repeated."""
    sources: Annotated[LocalPath | None, Argument("FILE")] = None
    """File of sources, with one id per line."""
    top: int = Field(20, ge=1)
    """Number of destinations of each source."""
    order: Order = None
    """Order by the model blended with earlier partners and popularity, with weights learned once
    on the validation split, or by the model alone; blend when unset, but model if the decoder reads
    the event log."""
    exclude_seen: bool = False
    """Leave out the earlier partners of the source."""
    out: Annotated[LocalPath | None, Argument("FILE")] = None
    """.csv, .csv.gz, .parquet or .json file; prints a table when unset."""
    evaluate: bool = False
    """Print hit@10 and MRR on the test split beside baselines, and write them to ranking.json in
    the run's folder."""
    max_events: int | None = Field(None, ge=1)
    """With --evaluate: approximate number of test events to rank, spread evenly; 2,000 when
    unset."""


def main(argv: list[str]) -> int:
    """Show the best destinations of sources, or evaluate such recommendations."""
    options = parse("recommend", RecommendOptions, argv)
    given = options.model_fields_set
    for name in OF_SOURCES if options.evaluate else ("max_events",):
        if name in given:
            verb = "cannot be given with" if options.evaluate else "needs"
            raise ConfigError(f"command line: {option(name)} {verb} --evaluate")
    if options.workers > 1 and not options.evaluate:
        raise ConfigError("command line: --workers needs --evaluate")
    if not (options.evaluate or options.src or options.sources):
        raise ConfigError("command line: recommend needs --src ID, --sources FILE or --evaluate")

    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.table_files import check_place

    if options.out is not None:
        check_place(options.out, SUFFIXES)
    live = LiveRun(options.run, options.replay, stream=options.stream)
    if options.evaluate:
        _evaluate(live, options)
    else:
        _recommend(live, options)
    return 0


def _recommend(live: LiveRun, options: RecommendOptions) -> None:
    from pres_dist.cli.show_progress import show_progress
    from pres_dist.inference.embeddings import find_nodes, read_ids
    from pres_dist.inference.recommend import recommend
    from pres_dist.inference.times import shown

    ids, places = options.src, ["--src"] * len(options.src)
    if options.sources is not None:
        more_ids, more_places = read_ids(options.sources)
        ids, places = ids + more_ids, places + more_places
    sources = find_nodes(live.lookup, ids, places, live.lookup.source_side)
    t = options.chosen_time(live)
    with show_progress("recommending", unit="done") as report:
        found = recommend(
            live, sources, options.top, t, options.exclude_seen, options.order, report
        )
        if options.out is None:
            _print_table(list(found), shown(live.stream, t))
        else:
            _write(options.out, list(found))


def _evaluate(live: LiveRun, options: RecommendOptions) -> None:
    from pres_dist.cli.show_progress import show_progress
    from pres_dist.files import keep
    from pres_dist.inference.ranking import MAX_EVENTS, evaluate_ranking
    from pres_dist.report.result_tables import aligned
    from pres_dist.report.run_record import check_same_run, id_of

    run = id_of(options.run)
    with options.sharing(live) as share, show_progress("ranking") as report:
        results = evaluate_ranking(live, options.max_events or MAX_EVENTS, report, share)
    check_same_run(options.run, run)
    keep(options.run / RANKING, json.dumps(results, indent=1) + "\n")
    print("\n".join(aligned(ranking_rows(results["ranked"]))))
    (new,) = {row["new_pairs"]["num_events"] for row in results["ranked"].values()}
    print(
        f"{results['num_events']:,} test events, {new:,} of them between a pair that is new, "
        f"ranked among {results['num_destinations']:,} destinations; {results['seconds']:.1f} s"
    )


def ranking_rows(ranked: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return a table of the ranking metrics of models and baselines, over all and new pairs."""
    from pres_dist.report.result_tables import number

    rows = [["", "hit@10", "MRR", "new pairs: hit@10", "new pairs: MRR"]]
    for name, row in ranked.items():
        groups = (row, row["new_pairs"])
        rows.append([name, *(number(of.get(key)) for of in groups for key in ("hit@10", "mrr"))])
    return rows


def _print_table(found: Iterable[Recommendation], time: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from pres_dist.console import result_console

    table = Table(title=f"at time {time}", title_justify="left")
    table.add_column("src", overflow="fold")
    table.add_column("", justify="right", overflow="fold")
    table.add_column("dst", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("met before", justify="right")
    for one in found:
        src, dst = (escape(printable(str(raw))) for raw in (one.src, one.dst))
        table.add_row(src, str(one.rank), dst, f"{one.probability:.4f}", f"{one.events:,}")
    result_console().print(table)


def _write(out: Path, found: list[Recommendation]) -> None:
    from pres_dist.inference.table_files import new_file, table_file

    rows = [asdict(one) for one in found]
    if out.suffix == ".json":
        with new_file(out) as file:
            file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    else:
        import pyarrow as pa

        names = ("src", "rank", "dst", "probability", "events")
        with table_file(out) as writer:
            writer.write(pa.table({name: [row[name] for row in rows] for name in names}))
    print(f"{out}: {len(rows):,} recommendations")
