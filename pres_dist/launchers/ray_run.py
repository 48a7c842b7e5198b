"""`train_on_ray`: a run on Ray from its configuration to its results.

Ray is imported only after its environment variables are set.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.launchers.ray_cluster import LOCAL, cluster, cluster_address, environment
from pres_dist.parallel.ray_shutdown import SHUTDOWN_FILE
from pres_dist.parallel.supervise import report
from pres_dist.records import Results
from pres_dist.report.progress import LogProgress, Progress
from pres_dist.report.run_folder import check_given_folder, fresh_folders
from pres_dist.report.run_lock import RunLock, lock_run

FAILURE_LOG = "failure.log"
PLACEMENTS = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
_RAY_TRAIN = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Options of the launcher, in addition to the configuration of the run.

    Attributes:
        num_workers: processes that share the run.
        placement: strategy of their placement group: on few nodes or on many.
        max_failures: worker failures after which the run still resumes.
    """

    num_workers: int = 2
    placement: str = "PACK"
    max_failures: int = 3

    def __post_init__(self) -> None:
        """Raise ConfigError for values that Ray would not accept."""
        if self.num_workers < 1:
            raise ConfigError(f"--num-workers must be an integer >= 1, got {self.num_workers}")
        if self.placement not in PLACEMENTS:
            raise ConfigError(
                f"--placement must be one of {', '.join(PLACEMENTS)}, got {self.placement!r}"
            )
        if self.max_failures < 0:
            raise ConfigError(f"--max-failures must be an integer >= 0, got {self.max_failures}")

    def cpus_per_worker(self, config: RunConfig) -> int:
        """Return the logical CPUs of a worker: one for each thread."""
        return max(config.training.num_threads, 1)

    def local_cpus(self, config: RunConfig) -> int:
        """Return the logical CPUs of a local cluster: half for workers, half for their actors."""
        return 2 * self.num_workers * self.cpus_per_worker(config)


def train_on_ray(
    config: RunConfig,
    options: RayOptions,
    address: str | None = None,
    run_dir: Path | None = None,
    console: Progress | None = None,
) -> Results:
    """Train on workers of a Ray cluster; failed workers are restarted.

    Args:
        config: what to compute.
        options: how many workers, where, and how often they may fail.
        address: of the cluster; when None, $RAY_ADDRESS or a cluster of its own.
        run_dir: new or empty folder for the run; runs/NAME-DATE-TIME when None.
        console: progress reporter; None logs progress at level INFO.

    Returns:
        Content of results.json.

    Raises:
        ConfigError: a setting cannot be used here, or the cluster cannot be joined.
        PresDistError: an error of a worker, or too many worker failures.
    """
    console = console or LogProgress()
    where = cluster_address(address)
    if where == LOCAL and options.placement == "STRICT_SPREAD" and options.num_workers > 1:
        raise ConfigError("--placement STRICT_SPREAD needs a node for each worker; give --address")
    with (
        _claimed(config.name, run_dir) as (folder, storage),
        environment(_RAY_TRAIN),
        cluster(where, options.local_cpus(config)),
    ):
        from pres_dist.launchers.ray_train import launch

        report(run=str(folder), end=str(storage / SHUTDOWN_FILE))
        return launch(config, options, folder, storage, console)


@contextmanager
def _claimed(name: str, run_dir: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield the run's folder, which workers create, and a sibling folder for Ray Train.

    The sibling is kept only if it holds a failure log.
    """
    try:
        folder, lock = _claim(name, run_dir)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot make a folder: {error.strerror}") from None
    with lock:
        storage = lock.folder
        report(remove=str(storage))
        try:
            yield folder, storage
        finally:
            if not (storage / FAILURE_LOG).exists():
                shutil.rmtree(storage, ignore_errors=True)
            else:
                report(keep=str(storage))


def _claim(name: str, run_dir: Path | None) -> tuple[Path, RunLock]:
    """Lock a sibling of the run's folder, so that no other launch uses the same folder."""
    if run_dir is not None:
        check_given_folder(run_dir)
        storage = _beside(run_dir)
        _make_own(storage)
        lock = lock_run(storage)
        try:
            check_given_folder(run_dir)  # the launch that held the lock may have started a run
        except BaseException:
            lock.release()
            raise
        (storage / FAILURE_LOG).unlink(missing_ok=True)
        return run_dir, lock
    for folder in fresh_folders(name):
        try:
            _beside(folder).mkdir(parents=True)
        except FileExistsError:
            continue
        if not folder.exists():
            return folder, lock_run(_beside(folder))
        _beside(folder).rmdir()
    raise AssertionError("fresh_folders() does not end")


def _make_own(folder: Path) -> None:
    """Make a folder, or reuse one that an earlier launch of this user left.

    Ray Train unpickles its content, so it must belong to this user and must not be a link.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise


def _beside(folder: Path) -> Path:
    absolute = Path(os.path.abspath(folder))
    return absolute.with_name(absolute.name + ".ray")
