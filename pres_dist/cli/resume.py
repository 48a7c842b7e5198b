"""`pres-dist resume RUN`, for a run on this machine or in a mirror."""

from __future__ import annotations

import os
from pathlib import Path

from pres_dist.cli.use_options import add_stream
from pres_dist.config.options import OptionParser
from pres_dist.errors import ConfigError
from pres_dist.files import user_path
from pres_dist.remote import is_url
from pres_dist.report.run_folder import read_config, restore_config
from pres_dist.run_files import LATEST


def main(argv: list[str]) -> int:
    """Continue a run from its last checkpoint."""
    parser = OptionParser(
        prog="pres-dist resume",
        description="Continue a run, with its own configuration, from its last checkpoint.",
    )
    parser.add_argument(
        "run", metavar="RUN", help="folder of the run, or the URL of its training.checkpoint_mirror"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        help="an older one of RUN/checkpoints, such as step-00000012 (default: the newest)",
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        type=user_path,
        help="new or empty folder that a run from a URL is copied to (default: runs/END-OF-URL)",
    )
    parser.add_argument(
        "--fetch-only", action="store_true", help="copy a run from a URL, and do not go on with it"
    )
    parser.add_argument(
        "--restore-config",
        action="store_true",
        help="first put back the config.yaml that the run was started with",
    )
    parser.add_argument(
        "--training.device",
        dest="device",
        metavar="DEVICE",
        help="where to train from now on, e.g. cpu for a run that began on a GPU; the bits of a "
        "run differ between devices (default: as before)",
    )
    add_stream(parser)
    arguments = parser.parse_args(argv)
    run_dir, checkpoint = user_path(arguments.run), arguments.checkpoint or LATEST
    if is_url(arguments.run):
        run_dir = _fetched(arguments.run, arguments.run_dir, checkpoint, arguments.fetch_only)
        checkpoint = LATEST  # its name in the fetched copy
        if arguments.fetch_only:
            return 0
    elif arguments.run_dir or arguments.fetch_only:
        raise ConfigError(f"--run-dir and --fetch-only go with a URL, got {arguments.run}")
    if arguments.restore_config:
        restore_config(run_dir)
    read_config(run_dir)  # Report a wrong folder before torch is imported.

    from pres_dist.parallel.notice import listening
    from pres_dist.report.progress import make_progress
    from pres_dist.training.run import resume

    progress = make_progress()
    try:
        with listening():
            resume(run_dir, progress, checkpoint, arguments.stream, arguments.device)
    finally:
        progress.stop()
    return 0


def _fetched(url: str, run_dir: Path | None, checkpoint: str, only: bool) -> Path:
    """Copy a run to this machine and return its folder."""
    run_dir = run_dir or Path("runs") / url.rstrip("/").rsplit("/", 1)[1]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not only:
        raise ConfigError(
            f"one process copies a run for all: `pres-dist resume {url} --fetch-only` first, then "
            f"start the workers with `resume {run_dir}`"
        )
    from pres_dist.training.fetch import fetch_run

    fetch_run(url, run_dir, checkpoint)
    print(f"{url} is now in {run_dir}", flush=True)
    return run_dir
