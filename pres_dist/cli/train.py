"""`pres-dist train CONFIG`."""

from __future__ import annotations

import os
from typing import Annotated

from pres_dist.cli.options import Argument, ConfigOptions, UserPath, parse_with_settings
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.errors import ConfigError
from pres_dist.report.environment import launch_id

MISSING_CONFIG = """train needs a configuration file
  start from an existing one:  pres-dist train configs/quickstart.yaml
  write one of your own:       pres-dist train configs/quickstart.yaml --print-config > my.yaml
  list all options:            pres-dist train --help"""


class TrainOptions(ConfigOptions):
    """Train a model. Every field of the configuration is also an option."""

    run_dir: Annotated[UserPath | None, Argument("DIR")] = None
    """New or empty folder for the run; runs/NAME-DATE-TIME when unset."""
    print_config: bool = False
    """Print the resolved configuration with help, and train nothing."""


def main(argv: list[str]) -> int:
    """Train as a configuration file and overrides describe."""
    if not argv:
        raise ConfigError(MISSING_CONFIG)
    options, settings = parse_with_settings("train", TrainOptions, argv)
    config = load_config(options.config, settings)
    if options.print_config:
        print(dump_yaml(config, with_help=True), end="")
        return 0

    from pres_dist.parallel.shutdown import graceful_shutdown
    from pres_dist.report.progress import make_progress
    from pres_dist.training.run import start_or_resume, train

    # An earlier attempt of this launch may have begun the run. All workers must decide the same,
    # but torchrun's count of restarts differs between machines: only the machine where a worker
    # died counts. So any launch with an id looks into the run folder, and the count is used only
    # for a launch without an id.
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    begin = start_or_resume if launch_id() is not None or restarts > 0 else train
    progress = make_progress()
    try:
        with graceful_shutdown():
            begin(config, options.run_dir, progress)
    finally:
        progress.stop()
    return 0
