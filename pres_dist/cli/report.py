"""`pres-dist report RUN`."""

from __future__ import annotations

import time

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import add_side, at_least_one, use_parser
from pres_dist.config.options import OptionParser, normalized
from pres_dist.files import local_path, user_path


def main(argv: list[str]) -> int:
    """Write an HTML page for inspecting the nodes of a run."""
    arguments = _parser().parse_args(normalized(argv))
    at_least_one("--nodes", arguments.nodes)
    at_least_one("--events", arguments.events)

    import torch

    from pres_dist.cli.data_progress import show_progress
    from pres_dist.inference.embeddings import find_nodes, read_ids
    from pres_dist.inference.explore.gather import Limits, explore
    from pres_dist.inference.explore.page import PAGE, require_page_libraries, write_explore_page
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.table_files import check_place
    from pres_dist.report.run_folder import read_config

    started = time.perf_counter()
    read_config(arguments.run)
    out = arguments.out or arguments.run / PAGE
    check_place(out, (".html",))
    require_page_libraries()
    limits = Limits(nodes=int(arguments.nodes), events=int(arguments.events))
    with terminable():
        live, chosen = LiveRun(arguments.run, arguments.replay, stream=arguments.stream), None
        if arguments.ids is not None:
            found = find_nodes(live.lookup, *read_ids(arguments.ids), side=arguments.side)
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


def _parser() -> OptionParser:
    parser = use_parser(
        "report",
        "[--nodes N | --ids FILE] [--out FILE]",
        "A page that opens without a network, on which the nodes of a run can be searched by "
        "your own ids and looked at: latest events, drift of memory, prediction error of PRES, "
        "nearest embeddings, and a map.",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=user_path,
        help="page to write (explore.html in the run's folder)",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--nodes",
        metavar="N",
        default="1000",
        help="how many nodes it holds, those with the most events (1000)",
    )
    chosen.add_argument(
        "--ids",
        metavar="FILE",
        type=local_path,
        help="the nodes of this file instead, an id a line",
    )
    add_side(parser, "--ids")
    parser.add_argument(
        "--events", metavar="N", default="20", help="latest events of each node (20)"
    )
    parser.add_argument(
        "--replay",
        action="store_true",
        help="rebuild the memory from the first event by the final weights: shows the training "
        "part too, with other memory than the run's own",
    )
    return parser
