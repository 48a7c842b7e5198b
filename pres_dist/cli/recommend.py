"""`pres-dist recommend RUN --src ID`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pres_dist.cli.options import (
    Argument,
    LocalPath,
    RunOptions,
    TimeOptions,
    parse,
)
from pres_dist.errors import ConfigError
from pres_dist.wording import printable

if TYPE_CHECKING:
    from pres_dist.inference.recommend import Recommendation

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".json")


class RecommendOptions(TimeOptions, RunOptions):
    """Rank the most likely destinations of sources at a time."""

    src: Annotated[list[str], Argument("ID", many=True)] = Field(default=[])
    """A source; may be repeated."""
    sources: Annotated[LocalPath | None, Argument("FILE")] = None
    """File of sources, with one id per line."""
    top: int = Field(20, ge=1)
    """Number of destinations of each source."""
    exclude_seen: bool = False
    """Leave out the earlier partners of the source."""
    out: Annotated[LocalPath | None, Argument("FILE")] = None
    """.csv, .csv.gz, .parquet or .json file; prints a table when unset."""


def main(argv: list[str]) -> int:
    """Show the best destinations of sources."""
    options = parse("recommend", RecommendOptions, argv)
    if not (options.src or options.sources):
        raise ConfigError("command line: recommend needs --src ID or --sources FILE")

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.inference.embeddings import find_nodes, read_ids
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.recommend import recommend
    from pres_dist.inference.table_files import check_place
    from pres_dist.inference.times import shown

    if options.out is not None:
        check_place(options.out, SUFFIXES)
    live = LiveRun(options.run, options.replay, stream=options.stream)
    ids, places = options.src, ["--src"] * len(options.src)
    if options.sources is not None:
        more_ids, more_places = read_ids(options.sources)
        ids, places = ids + more_ids, places + more_places
    sources = find_nodes(live.lookup, ids, places, live.lookup.source_side)
    t = options.chosen_time(live)
    with show_progress("recommending", unit="done") as report:
        found = recommend(live, sources, options.top, t, options.exclude_seen, report)
        if options.out is None:
            _print_table(list(found), shown(live.stream, t))
        else:
            _write(options.out, list(found))
    return 0


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
