"""`pres-dist embed RUN --out FILE`."""

from __future__ import annotations

import time
from typing import Annotated

from pres_dist.cli.options import (
    Argument,
    LocalPath,
    RunOptions,
    Side,
    TimeOptions,
    WorkerOptions,
    check_partner,
    parse,
)


class EmbedOptions(WorkerOptions, TimeOptions, RunOptions):
    """Write the embeddings of all nodes that have an event before a time, under your own ids."""

    out: Annotated[LocalPath, Argument("FILE")]
    """File to write: .parquet (a list of numbers per node), .csv, .csv.gz or .npz."""
    nodes: Annotated[LocalPath | None, Argument("FILE")] = None
    """Write only the nodes of this file, with one id per line."""
    side: Side = None
    """Side of the ids of --nodes, if an id may be a source or a destination."""


def main(argv: list[str]) -> int:
    """Write the embeddings of nodes at a point in time to a file."""
    options = parse("embed", EmbedOptions, argv)
    check_partner(options, ["side"], "nodes")

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.inference.embeddings import find_nodes, read_ids, write_embeddings
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.node_table import NODE_SUFFIXES
    from pres_dist.inference.table_files import check_place
    from pres_dist.inference.times import shown

    started = time.perf_counter()
    check_place(options.out, NODE_SUFFIXES)
    live = LiveRun(options.run, options.replay, stream=options.stream)
    t, nodes = options.chosen_time(live), None
    if options.nodes is not None:
        nodes = find_nodes(live.lookup, *read_ids(options.nodes), side=options.side)
    with options.sharing(live) as share, show_progress("embedding") as report:
        rows = write_embeddings(live, options.out, t, nodes, report, share)
    seconds = time.perf_counter() - started
    print(
        f"{options.out}: {rows:,} nodes at time {shown(live.stream, t)}, "
        f"{live.config.model.embedding_dim} numbers each, after "
        f"{live.first_event_at(t):,} events ({seconds:.1f} s)"
    )
    return 0
