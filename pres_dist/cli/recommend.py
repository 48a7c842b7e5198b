"""`pres-dist recommend RUN --src ID`, and `--evaluate`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import (
    add_time,
    add_workers,
    at_least_one,
    checked_workers,
    chosen_time,
    sharing,
    use_parser,
)
from pres_dist.config.options import OptionParser, normalized
from pres_dist.errors import ConfigError
from pres_dist.files import local_path
from pres_dist.wording import printable

if TYPE_CHECKING:
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.recommend import Recommendation

RANKING = "ranking.json"
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".json")


def main(argv: list[str]) -> int:
    """Show the best destinations of sources, or evaluate such recommendations."""
    arguments = _parser().parse_args(normalized(argv))
    _check(arguments)

    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.table_files import check_place

    if arguments.out is not None:
        check_place(arguments.out, SUFFIXES)
    with terminable():
        live = LiveRun(arguments.run, arguments.replay, stream=arguments.stream)
        if arguments.evaluate:
            _evaluate(live, arguments)
        else:
            _recommend(live, arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options that have no effect together."""
    of_sources: dict[str, object] = {
        "--src": arguments.src,
        "--sources": arguments.sources,
        "--at": arguments.at,
        "--latest": arguments.latest,
        "--exclude-seen": arguments.exclude_seen,
        "--out": arguments.out,
        "--top": arguments.top,
        "--order": arguments.order,
    }
    of_evaluation: dict[str, object] = {
        "--max-events": arguments.max_events,
        "--workers": checked_workers(arguments) > 1,
    }
    unfit = of_sources if arguments.evaluate else of_evaluation
    given = [name for name, value in unfit.items() if value]
    if given:
        verb = "cannot be given with" if arguments.evaluate else "needs"
        raise ConfigError(f"command line: {given[0]} {verb} --evaluate")
    if not arguments.evaluate and not (arguments.src or arguments.sources):
        raise ConfigError("command line: recommend needs --src ID, --sources FILE or --evaluate")


def _recommend(live: LiveRun, arguments: argparse.Namespace) -> None:
    from pres_dist.cli.data_progress import show_progress
    from pres_dist.inference.embeddings import find_nodes, read_ids
    from pres_dist.inference.recommend import recommend
    from pres_dist.inference.times import shown

    ids = [str(one) for one in arguments.src or []]
    where = ["--src"] * len(ids)
    if arguments.sources is not None:
        more, places = read_ids(arguments.sources)
        ids, where = ids + more, where + places
    sources = find_nodes(live.lookup, ids, where, live.lookup.source_side)
    t, top = chosen_time(live, arguments), at_least_one("--top", arguments.top or "20")
    with show_progress("recommending", unit="done") as report:
        found = recommend(live, sources, top, t, arguments.exclude_seen, arguments.order, report)
        if arguments.out is None:
            _print_table(list(found), shown(live.stream, t))
        else:
            _write(arguments.out, list(found))


def _evaluate(live: LiveRun, arguments: argparse.Namespace) -> None:
    from pres_dist.cli.data_progress import show_progress
    from pres_dist.files import keep
    from pres_dist.inference.ranking import MAX_EVENTS, evaluate_ranking
    from pres_dist.report.comparison import aligned
    from pres_dist.report.run_record import check_same_run, id_of

    run = id_of(arguments.run)
    max_events = MAX_EVENTS
    if arguments.max_events is not None:
        max_events = at_least_one("--max-events", arguments.max_events)
    workers = checked_workers(arguments)
    with sharing(live, workers, arguments.address) as share, show_progress("ranking") as report:
        results = evaluate_ranking(live, max_events, report, share)
    check_same_run(arguments.run, run)
    keep(arguments.run / RANKING, json.dumps(results, indent=1) + "\n")
    print("\n".join(aligned(_ranking_rows(results))))
    (new,) = {row["new_pairs"]["num_events"] for row in results["ranked"].values()}
    print(
        f"{results['num_events']:,} test events, {new:,} of them between a pair that is new, "
        f"ranked among {results['num_destinations']:,} destinations; {results['seconds']:.1f} s"
    )


def _ranking_rows(results: dict[str, Any]) -> list[list[str]]:
    from pres_dist.report.progress import number

    rows = [["", "hit@10", "MRR", "new pairs: hit@10", "new pairs: MRR"]]
    for name, row in results["ranked"].items():
        groups = (row, row["new_pairs"])
        rows.append([name, *(number(of.get(key)) for of in groups for key in ("hit@10", "mrr"))])
    return rows


def _print_table(found: Iterable[Recommendation], time: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from pres_dist.output import result_console

    table = Table(title=f"at time {time}", title_justify="left")
    for name, side in (("src", "left"), ("", "right"), ("dst", "left")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
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


def _parser() -> OptionParser:
    parser = use_parser(
        "recommend",
        "--src ID ... [--top N] | --evaluate",
        "The most likely destinations of sources at a time. --evaluate measures, over the test "
        "part, how far up the true destination stands among all of them.",
    )
    parser.add_argument("--src", metavar="ID", action="append", help="a source; may be repeated")
    parser.add_argument("--sources", metavar="FILE", type=local_path, help="sources, an id a line")
    parser.add_argument("--top", metavar="N", help="destinations of each source (20)")
    parser.add_argument(
        "--order",
        choices=("blend", "model"),
        help="order by the model blended with what was met before and is popular, by weights "
        "learned once on the validation split, or by the model alone (blend, but for a model whose "
        "decoder reads the event log)",
    )
    add_time(parser)
    parser.add_argument(
        "--exclude-seen", action="store_true", help="leave out whom the source has met before"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=local_path,
        help=".csv, .csv.gz, .parquet or .json file; a table when unset",
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help=f"hit@10 and MRR on the test split beside baselines; also written to {RANKING}",
    )
    parser.add_argument(
        "--max-events", metavar="N", help="rank about so many test events, spread evenly (2,000)"
    )
    add_workers(parser)
    return parser
