"""`pres-dist train CONFIG`."""

from __future__ import annotations

import os

from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.options import OptionParser, add_overrides, normalized
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.files import user_path
from pres_dist.report.environment import launch_id

MISSING_CONFIG = """train needs a configuration file
  start from one that is there:  pres-dist train configs/quickstart.yaml
  or write one of your own:      pres-dist train configs/quickstart.yaml --print-config > my.yaml
  all options:                   pres-dist train --help"""


def main(argv: list[str]) -> int:
    """Train as a configuration file and overrides describe."""
    argv = normalized(argv)
    if not argv:
        raise ConfigError(MISSING_CONFIG)
    arguments, unknown = _parser().parse_known_args(argv)
    config = load_config(arguments.config, [*(arguments.overrides or []), *unknown])
    if arguments.print_config:
        print(dump_yaml(config, with_help=True), end="")
        return 0

    from pres_dist.parallel.notice import listening
    from pres_dist.report.progress import make_progress
    from pres_dist.training.run import start_or_resume, train

    progress = make_progress()
    try:
        begin = start_or_resume if _may_have_begun() else train
        with listening():
            begin(config, arguments.run_dir, progress)
    finally:
        progress.stop()
    return 0


def _may_have_begun() -> bool:
    """Return True if an earlier attempt of this launch may have begun the run.

    All workers must return the same, but torchrun's count of restarts differs between
    machines: only the machine where a worker died counts. So any launch with an id looks
    into the run folder, and the count is used only for a launch without an id.
    """
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return launch_id() is not None or restarts > 0


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="pres-dist train",
        usage="pres-dist train CONFIG [--run-dir DIR] [--print-config] [--SECTION.FIELD VALUE ...]",
        description="Train a model. Every field of the configuration is also an option.",
    )
    parser.add_argument("config", metavar="CONFIG", type=user_path, help="YAML configuration file")
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        type=user_path,
        help="new or empty folder for the run (default: runs/NAME-DATE-TIME)",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the resolved configuration with help, and train nothing",
    )
    add_overrides(parser, RunConfig)
    return parser
