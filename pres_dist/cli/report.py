"""`pres-dist report RUN`."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import Field

from pres_dist.cli.options import (
    Argument,
    LocalPath,
    RunOptions,
    Side,
    UserPath,
    check_partner,
    parse,
)


class ReportOptions(RunOptions):
    """Write an HTML page for inspecting the nodes of a run.

    The page needs no network. It finds nodes by your own ids, and shows their latest events, the
    drift of their memory, the prediction error of PRES, their nearest embeddings, and a map.
    """

    out: Annotated[UserPath | None, Argument("FILE")] = None
    """Page to write; explore.html in the run's folder when unset."""
    nodes: Annotated[int, Argument("N", exclusive="nodes")] = Field(1000, ge=1)
    """Number of nodes in the page, those with the most events."""
    ids: Annotated[LocalPath | None, Argument("FILE", exclusive="nodes")] = None
    """Show the nodes of this file instead, with one id per line."""
    side: Side = None
    """Side of the ids of --ids, if an id may be a source or a destination."""
    events: int = Field(20, ge=1)
    """Number of latest events of each node."""
    replay: bool = False
    """Rebuild the memory from the first event with the final weights. This also shows the training
    split, with a memory that differs from the run's own."""


def main(argv: list[str]) -> int:
    """Write an HTML page for inspecting the nodes of a run."""
    options = parse("report", ReportOptions, argv)
    check_partner(options, ["side"], "ids")

    import torch

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.inference.embeddings import find_nodes, read_ids
    from pres_dist.inference.explore.gather import Limits, explore
    from pres_dist.inference.explore.page import PAGE, require_page_libraries, write_explore_page
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.table_files import check_place
    from pres_dist.report.run_folder import read_config

    started = time.perf_counter()
    read_config(options.run)
    out = options.out or options.run / PAGE
    check_place(out, (".html",))
    require_page_libraries()
    limits = Limits(nodes=options.nodes, events=options.events)
    live, chosen = LiveRun(options.run, options.replay, stream=options.stream), None
    if options.ids is not None:
        found = find_nodes(live.lookup, *read_ids(options.ids), side=options.side)
        chosen = torch.tensor(list(dict.fromkeys(found.tolist())))
    with show_progress("exploring") as report:
        explored = explore(live, limits, chosen, report)
    write_explore_page(out, live, explored, limits)
    print(
        f"{out}: {len(explored.nodes_n):,} of {explored.num_known:,} nodes, "
        f"{len(explored.watched):,} events watched, {out.stat().st_size / 1e6:.1f} MB "
        f"({time.perf_counter() - started:.1f} s)"
    )
    return 0
