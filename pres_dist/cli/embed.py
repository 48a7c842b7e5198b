"""`pres-dist embed RUN --out FILE`."""

from __future__ import annotations

import time

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import (
    add_side,
    add_time,
    add_workers,
    checked_workers,
    chosen_time,
    sharing,
    use_parser,
)
from pres_dist.config.options import OptionParser, normalized
from pres_dist.files import local_path


def main(argv: list[str]) -> int:
    """Write the embeddings of nodes at a point in time to a file."""
    arguments = _parser().parse_args(normalized(argv))

    from pres_dist.cli.data_progress import show_progress
    from pres_dist.inference.embeddings import find_nodes, read_ids, write_embeddings
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.node_table import NODE_SUFFIXES
    from pres_dist.inference.table_files import check_place
    from pres_dist.inference.times import shown

    started = time.perf_counter()
    workers = checked_workers(arguments)
    check_place(arguments.out, NODE_SUFFIXES)
    with terminable():
        live = LiveRun(arguments.run, arguments.replay, stream=arguments.stream)
        t, nodes = chosen_time(live, arguments), None
        if arguments.nodes is not None:
            nodes = find_nodes(live.lookup, *read_ids(arguments.nodes), side=arguments.side)
        with (
            sharing(live, workers, arguments.address) as share,
            show_progress("embedding") as report,
        ):
            rows = write_embeddings(live, arguments.run, arguments.out, t, nodes, report, share)
    seconds = time.perf_counter() - started
    print(
        f"{arguments.out}: {rows:,} nodes at time {shown(live.stream, t)}, "
        f"{live.config.model.embedding_dim} numbers each, after "
        f"{live.first_event_at(t):,} events ({seconds:.1f} s)"
    )
    return 0


def _parser() -> OptionParser:
    parser = use_parser(
        "embed",
        "[--at TIME | --latest] --out FILE",
        "Embeddings of all nodes that have an event by a time, under your own ids.",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=local_path,
        required=True,
        help="file to write: .parquet (a list of numbers a node), .csv, .csv.gz or .npz",
    )
    add_time(parser)
    parser.add_argument(
        "--nodes", metavar="FILE", type=local_path, help="only the nodes of this file, an id a line"
    )
    add_side(parser, "--nodes")
    add_workers(parser)
    return parser
