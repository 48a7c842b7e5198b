"""`pres-dist ray CONFIG`."""

from __future__ import annotations

import importlib.util

from pres_dist.cli.terminable import terminable
from pres_dist.config.load import load_config
from pres_dist.config.options import OptionParser, add_overrides, normalized
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.files import user_path

MISSING_CONFIG = """ray needs a configuration file
  start from one that is there:  pres-dist ray configs/quickstart.yaml --num-workers 2
  all options:                   pres-dist ray --help"""


def main(argv: list[str]) -> int:
    """Train on workers of a Ray cluster, as a configuration file and overrides describe."""
    argv = normalized(argv)
    if not argv:
        raise ConfigError(MISSING_CONFIG)
    arguments, unknown = _parser().parse_known_args(argv)
    config = load_config(arguments.config, [*(arguments.overrides or []), *unknown])
    require_ray()

    from pres_dist.launchers.ray_options import RayOptions
    from pres_dist.launchers.ray_run import train_on_ray
    from pres_dist.parallel.notice import PROCESS
    from pres_dist.report.progress import make_progress

    options = RayOptions(
        num_workers=arguments.num_workers,
        placement=arguments.placement,
        max_failures=arguments.max_failures,
    )
    progress = make_progress()
    try:
        with terminable(PROCESS):
            train_on_ray(config, options, arguments.address, arguments.run_dir, progress)
    finally:
        progress.stop()
        PROCESS.forget()
    return 0


def require_ray() -> None:
    """Raise ConfigError if Ray is not installed, without importing it."""
    try:
        found = importlib.util.find_spec("ray")
    except ImportError:
        found = None
    if found is None:
        raise ConfigError(
            "`pres-dist ray` needs Ray, which is not installed: pip install 'ray>=2.52'"
        )


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="pres-dist ray",
        usage="pres-dist ray CONFIG [--num-workers N] [--address ADDRESS] [--placement STRATEGY] "
        "[--max-failures N] [--run-dir DIR] [--SECTION.FIELD VALUE ...]",
        description="Train a model on several workers of a Ray cluster. Without an address (here "
        "or in RAY_ADDRESS) the cluster is on this machine alone and ends with the run.",
    )
    parser.add_argument("config", metavar="CONFIG", type=user_path, help="YAML configuration file")
    parser.add_argument(
        "--num-workers", metavar="N", type=int, default=2, help="worker processes (default 2)"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="HOST:PORT of a cluster to join, or auto"
    )
    parser.add_argument(
        "--placement",
        metavar="STRATEGY",
        default="PACK",
        help="PACK on few nodes, SPREAD over many, STRICT_PACK or STRICT_SPREAD (default PACK)",
    )
    parser.add_argument(
        "--max-failures",
        metavar="N",
        type=int,
        default=3,
        help="failures of workers after which the run goes on from its checkpoint (default 3)",
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        type=user_path,
        help="new or empty folder for the run, which all nodes must see "
        "(default: runs/NAME-DATE-TIME)",
    )
    add_overrides(parser, RunConfig)
    return parser
