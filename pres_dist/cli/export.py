"""`pres-dist export RUN --out DIR`."""

from __future__ import annotations

import time
from typing import Annotated

from pres_dist.cli.options import Argument, RunOptions, UserPath, parse


class ExportOptions(RunOptions):
    """Export a trained run to files that other software reads without pres_dist.

    Weights are written as safetensors, the link decoder and the memory updater as torch.export
    programs.
    """

    out: Annotated[UserPath, Argument("DIR")]
    """New folder to write."""
    memory: bool = False
    """Also write the memory of all nodes after the last event of the run."""


def main(argv: list[str]) -> int:
    """Export a trained run to files for other software."""
    options = parse("export", ExportOptions, argv)

    from pres_dist.cli.show_progress import show_progress
    from pres_dist.inference.export.archive import export_run

    started = time.perf_counter()
    with show_progress("exporting") as report:
        export_run(options.run, options.out, options.memory, report, options.stream)
    names = sorted(file.name for file in options.out.iterdir())
    print(f"{options.out}: {', '.join(names)} ({time.perf_counter() - started:.1f} s)")
    return 0
