"""`pres-dist resume RUN`, for a run on this machine or in a mirror."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pres_dist.cli.options import Argument, RunOptions, UserPath, parse
from pres_dist.errors import ConfigError
from pres_dist.files import user_path
from pres_dist.remote import is_url
from pres_dist.report.run_folder import read_config, restore_config
from pres_dist.run_files import LATEST


class ResumeOptions(RunOptions):
    """Continue a run from its newest checkpoint, with its own configuration."""

    run: Annotated[str, Argument("RUN", positional=True)]  # type: ignore[assignment]
    """Folder of the run, or the URL of its training.checkpoint_mirror."""
    checkpoint: Annotated[str | None, Argument("NAME")] = None
    """An older checkpoint in RUN/checkpoints, such as step-00000012; the newest when unset."""
    run_dir: Annotated[UserPath | None, Argument("DIR")] = None
    """New or empty folder to copy a run from a URL to; runs/END-OF-URL when unset."""
    fetch_only: bool = False
    """Copy a run from a URL, and do not continue it."""
    restore_config: bool = False
    """First restore the config.yaml that the run was started with."""
    device: Annotated[str | None, Argument("DEVICE", name="--training.device")] = None
    """Device to train on from now on, such as cpu for a run that began on a GPU; unchanged when
    unset. The bits of a run differ between devices."""


def main(argv: list[str]) -> int:
    """Continue a run from its last checkpoint."""
    options = parse("resume", ResumeOptions, argv)
    run_dir, checkpoint = user_path(options.run), options.checkpoint or LATEST
    if is_url(options.run):
        run_dir = options.run_dir or Path("runs") / options.run.rstrip("/").rsplit("/", 1)[1]
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not options.fetch_only:
            raise ConfigError(
                f"one process copies a run for all: `pres-dist resume {options.run} --fetch-only` "
                f"first, then start the workers with `resume {run_dir}`"
            )
        from pres_dist.training.fetch import fetch_run

        fetch_run(options.run, run_dir, checkpoint)
        print(f"{options.run} is now in {run_dir}", flush=True)
        checkpoint = LATEST  # its name in the fetched copy
        if options.fetch_only:
            return 0
    elif options.run_dir or options.fetch_only:
        raise ConfigError(
            f"command line: --run-dir and --fetch-only go with a URL, got {options.run}"
        )
    if options.restore_config:
        restore_config(run_dir)
    read_config(run_dir)  # Report a wrong folder before torch is imported.

    from pres_dist.parallel.shutdown import graceful_shutdown
    from pres_dist.report.progress import make_progress
    from pres_dist.training.run import resume

    progress = make_progress()
    try:
        with graceful_shutdown():
            resume(run_dir, progress, checkpoint, options.stream, options.device)
    finally:
        progress.stop()
    return 0
