"""`pres-dist ray CONFIG`."""

from __future__ import annotations

from typing import Annotated

from pres_dist.cli.options import Argument, ConfigOptions, UserPath, parse_with_settings
from pres_dist.config.load import load_config
from pres_dist.errors import ConfigError

MISSING_CONFIG = """ray needs a configuration file
  start from an existing one:  pres-dist ray configs/quickstart.yaml --num-workers 2
  list all options:            pres-dist ray --help"""


class ClusterOptions(ConfigOptions):
    """Train a model on several workers of a Ray cluster.

    Without an address, here or in RAY_ADDRESS, the cluster is on this machine alone and ends with
    the run. Every field of the configuration is also an option.
    """

    num_workers: int = 2
    """Number of worker processes."""
    address: Annotated[str | None, Argument("HOST:PORT")] = None
    """Cluster to join, or auto for the one on this machine."""
    placement: Annotated[str, Argument("STRATEGY")] = "PACK"
    """PACK on few nodes, SPREAD over many, STRICT_PACK or STRICT_SPREAD."""
    max_failures: int = 3
    """Number of worker failures after which the run still resumes from its checkpoint."""
    run_dir: Annotated[UserPath | None, Argument("DIR")] = None
    """New or empty folder for the run, which all nodes must see; runs/NAME-DATE-TIME when unset."""


def main(argv: list[str]) -> int:
    """Train on workers of a Ray cluster, as a configuration file and overrides describe."""
    if not argv:
        raise ConfigError(MISSING_CONFIG)
    options, settings = parse_with_settings("ray", ClusterOptions, argv)
    config = load_config(options.config, settings)

    from pres_dist.launchers.ray_cluster import require_ray

    require_ray("`pres-dist ray`")

    from pres_dist.launchers.ray_run import RayOptions, train_on_ray
    from pres_dist.parallel.shutdown import announced_shutdown
    from pres_dist.report.progress import make_progress

    launch = RayOptions(
        num_workers=options.num_workers,
        placement=options.placement,
        max_failures=options.max_failures,
    )
    progress = make_progress()
    try:
        with announced_shutdown():
            train_on_ray(config, launch, options.address, options.run_dir, progress)
    finally:
        progress.stop()
    return 0
