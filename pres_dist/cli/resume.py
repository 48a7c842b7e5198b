"""`pres-dist resume RUN`."""

from __future__ import annotations

from pathlib import Path

from pres_dist.config.options import OptionParser
from pres_dist.report.run_folder import LATEST, read_config


def main(argv: list[str]) -> int:
    """Continue a run from its last checkpoint."""
    parser = OptionParser(
        prog="pres-dist resume",
        description="Continue a run, with its own configuration, from its last checkpoint.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        help="an older one of RUN/checkpoints, such as step-00000012 (default: the newest)",
    )
    arguments = parser.parse_args(argv)
    run_dir: Path = arguments.run
    read_config(run_dir)  # A wrong folder should not cost the import of torch.

    from pres_dist.parallel.notice import listening
    from pres_dist.report.progress import make_progress
    from pres_dist.training.run import resume

    progress = make_progress()
    try:
        with listening():
            resume(run_dir, progress, arguments.checkpoint or LATEST)
    finally:
        progress.stop()
    return 0
