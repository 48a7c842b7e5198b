"""The Ray cluster of a run: a new one on this machine, or an existing one."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pres_dist.errors import ConfigError, MissingPackageError, first_line
from pres_dist.parallel.loopback import INTERFACES
from pres_dist.parallel.signals import shutdown_signals
from pres_dist.parallel.supervise import ray_processes, report
from pres_dist.report.run_lock import LOCK, is_locked, lock_run

LOCAL = "local"
OBJECT_STORE_BYTES = 80 * 2**20
"""Near the minimum that Ray accepts; node memory does not pass through the object store."""

_QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": "^A worker died or was killed while executing a task"}
"""Suppresses Ray's message for each dead worker, which it prints even for those that it ended
itself. The code that uses the cluster reports the deaths that matter."""
_LOOPBACK = "127.0.0.1"
_PREFIX = "pres-dist-ray-"
_PATIENCE_S = 5.0
_LONGEST_FOLDER = 18
"""Longest path of the system's temporary folder, in characters. Ray puts sockets below it, whose
paths are limited to 107: 25 are for our two folders in it, and 64 for Ray's."""


def cluster_address(address: str | None) -> str:
    """Return the address of the cluster to use: as given, else $RAY_ADDRESS, else `local`.

    Raises:
        ConfigError: an address that a driver cannot join.
    """
    found = address or os.environ.get("RAY_ADDRESS") or LOCAL
    if "://" in found:
        raise ConfigError(
            f"the Ray address must be HOST:PORT of a cluster that this machine belongs to, auto "
            f"or local, got {found!r}; from elsewhere, use "
            "`ray job submit -- python -m pres_dist ray CONFIG`"
        )
    return found


def require_ray(feature: str) -> None:
    """Raise MissingPackageError if Ray is not installed, without importing it."""
    try:
        found = importlib.util.find_spec("ray")
    except ImportError:
        found = None
    if found is None:
        raise MissingPackageError(feature, "Ray", "ray")


@contextmanager
def cluster(address: str, num_cpus: int) -> Iterator[None]:
    """Make this process the driver of a Ray cluster for the duration of the block.

    Args:
        address: `local` for a new cluster that ends with the block; else a cluster to join.
        num_cpus: logical CPUs of a local cluster; the machine may have fewer.

    Raises:
        ConfigError: the cluster cannot be joined, or Ray is not installed.
    """
    require_ray("a Ray cluster")
    with environment(_QUIET):
        if address == LOCAL:
            with (
                environment(_local_environment()),
                _temporary_folder() as folder,
                _local(num_cpus, folder),
            ):
                yield
        else:
            with _joined(address):
                yield


@contextmanager
def _local(num_cpus: int, folder: Path) -> Iterator[None]:
    import ray

    try:
        try:
            _init(
                address=LOCAL,
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
        except Exception as error:  # Ray raises a plain Exception if a node starts too slowly
            raise ConfigError(
                f"Ray cannot start a cluster on this machine: {first_line(error).rstrip('.')}"
            ) from None
        if ray.util.get_node_ip_address() != _LOOPBACK:
            raise RuntimeError("Ray was imported before pres_dist could keep it on loopback")
        report(watch=dict(ray_processes()), needed=str(folder))
        yield
    finally:
        report(ending=True)
        with _uninterrupted():
            processes = psutil.Process().children(recursive=True)
            ray.shutdown(wait_for_processes=True)
            # Actors notice the end of their cluster late.
            for process in psutil.wait_procs(processes, timeout=_PATIENCE_S)[1]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@contextmanager
def _joined(address: str) -> Iterator[None]:
    import ray

    try:
        try:
            _init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # as above
            raise ConfigError(
                f"{address}: cannot join the Ray cluster: {first_line(error).rstrip('.')}; does it "
                "run, and is its token in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, with "
                "RAY_AUTH_MODE=token?"
            ) from None
        yield
    finally:
        ray.shutdown()


def _init(**settings: Any) -> None:
    """Call `ray.init` without interruption; Ray's SIGTERM handler would abort the process."""
    import ray

    with _uninterrupted():
        ray.init(**settings)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP until the block ends: Ray tolerates no interruption."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in (signal.SIGINT, *shutdown_signals())
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _local_environment() -> dict[str, str]:
    """Return the variables that Ray reads when it is imported and that its processes inherit."""
    return {
        # A token for this cluster only: no other user of this machine can use it.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Ray then takes 127.0.0.1 for this node, as it does on macOS, and binds to it.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's agents then end with the raylet at once, and not up to 80 s later.
        "RAY_enable_pipe_based_agent_to_parent_health_check": "1",
        **INTERFACES,
    }


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the duration of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a path for Ray's sockets and logs, removed afterwards.

    Ray lets all users write into the folder that it is given, so that folder lies in another,
    which only this user may enter.
    """
    root = Path(tempfile.gettempdir())
    root = root if len(str(root)) <= _LONGEST_FOLDER else Path("/tmp")
    for forgotten in root.glob(f"{_PREFIX}*"):  # of drivers killed together with supervisors
        with suppress(OSError):
            ours = forgotten.stat().st_uid == os.getuid() and (forgotten / LOCK).exists()
            if ours and not is_locked(forgotten):
                shutil.rmtree(forgotten, ignore_errors=True)
    private = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    report(remove=str(private))
    try:
        with lock_run(private):
            yield private / "r"
    finally:
        shutil.rmtree(private, ignore_errors=True)
