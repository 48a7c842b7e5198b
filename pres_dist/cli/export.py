"""`pres-dist export RUN --out DIR`."""

from __future__ import annotations

import time

from pres_dist.cli.terminable import terminable
from pres_dist.cli.use_options import use_parser
from pres_dist.config.options import OptionParser, normalized
from pres_dist.files import user_path


def main(argv: list[str]) -> int:
    """Write a trained run as files for other software."""
    arguments = _parser().parse_args(normalized(argv))

    from pres_dist.cli.data_progress import show_progress
    from pres_dist.inference.export.archive import export_run

    started = time.perf_counter()
    with terminable(), show_progress("exporting") as report:
        export_run(arguments.run, arguments.out, arguments.memory, report, arguments.stream)
    names = sorted(file.name for file in arguments.out.iterdir())
    print(f"{arguments.out}: {', '.join(names)} ({time.perf_counter() - started:.1f} s)")
    return 0


def _parser() -> OptionParser:
    parser = use_parser(
        "export",
        "--out DIR [--memory]",
        "Weights as safetensors, and link decoder and memory updater as torch.export programs, "
        "which run without pres_dist.",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=user_path, required=True, help="new folder to write"
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="also the memory of all nodes, after the last event that the run knows",
    )
    return parser
