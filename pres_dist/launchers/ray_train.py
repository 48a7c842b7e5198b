"""A run on Ray, with Ray Train's worker group as its workers."""

from __future__ import annotations

import _thread
import logging
import math
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train import ControllerError, FailureConfig, LoggingConfig, ScalingConfig, WorkerGroupError
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, PresDistError
from pres_dist.failpoint import VARIABLE as FAILPOINTS
from pres_dist.launchers.ray_failures import FailureNotes, controller_lost, used_up
from pres_dist.launchers.ray_relay import Call, Mailbox, RelayHandler, RelayProgress, replay
from pres_dist.launchers.ray_run import FAILURE_LOG, RayOptions
from pres_dist.parallel.ray_group import GroupConfig
from pres_dist.parallel.ray_shutdown import forward_shutdown, watch_for_shutdown
from pres_dist.parallel.signals import forget_interrupt
from pres_dist.records import Results
from pres_dist.report.environment import LAUNCH
from pres_dist.report.progress import Progress

START_TIMEOUT_S = 600
"""Maximum start-up skew of workers; after that, collectives wait parallel.timeout_s at most."""
_POLL_S = 0.1
_SHARED = "shared"


@dataclass(frozen=True)
class Job:
    """Job description that the launcher sends to each worker.

    Attributes:
        folder: of the run, as the launcher names it.
        storage: its sibling folder, which Ray Train uses during the run.
        mailbox: receives the progress of worker 0.
        arguments: command line of the launcher, which environment.json records.
        working_dir: of the launcher, so that relative paths mean the same in workers.
    """

    config: RunConfig
    folder: Path
    storage: Path
    mailbox: ActorHandle
    arguments: tuple[str, ...]
    working_dir: Path


class Outbox:
    """Callable that sends calls to a mailbox without waiting for it."""

    def __init__(self, mailbox: ActorHandle) -> None:
        self._mailbox = mailbox
        self._last: ray.ObjectRef | None = None

    def __call__(self, calls: list[Call]) -> None:
        """Send calls."""
        self._last = self._mailbox.put.remote(calls)

    def wait(self) -> None:
        """Wait until the mailbox has received all calls."""
        if self._last is not None:
            ray.get(self._last)


def launch(
    config: RunConfig, options: RayOptions, folder: Path, storage: Path, console: Progress
) -> Results:
    """Train on the Ray cluster that this process has joined.

    Args:
        config: what to compute.
        options: how many workers, where, and how often they may fail.
        folder: of the run; the workers create it.
        storage: an existing folder for Ray Train only; all nodes must see it.
        console: progress reporter.

    Returns:
        Content of results.json.

    Raises:
        PresDistError: an error of a worker that a retry would not fix.
        WorkersFailedError: workers failed more than `options.max_failures` times.
    """
    on_gpu = _on_gpu(config, options, console)
    _warn(options, console)
    (storage / _SHARED).touch()
    # On this node, so that it lives as long as the launcher.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
    job = Job(config, folder, storage, mailbox, tuple(sys.argv), Path.cwd())
    trainer = _Trainer(
        _work,
        train_loop_config={"job": job},
        torch_config=GroupConfig(
            timeout_s=math.ceil(config.parallel.timeout_s) if on_gpu else START_TIMEOUT_S
        ),
        scaling_config=ScalingConfig(
            num_workers=options.num_workers,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": options.cpus_per_worker(config), "GPU": int(on_gpu)},
            placement_strategy=options.placement,
        ),
        run_config=RayRunConfig(
            name=storage.name,
            storage_path=str(storage.parent),
            failure_config=FailureConfig(max_failures=options.max_failures),
            callbacks=[FailureNotes(options.max_failures, folder.absolute(), Outbox(mailbox))],
            worker_runtime_env={"env_vars": _worker_environment(config, on_gpu)},
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    try:
        with _showing(mailbox, console), forward_shutdown(storage):
            results: Results = trainer.fit().return_value
            return results
    except ControllerError as error:
        if isinstance(error.controller_failure, PresDistError):
            raise error.controller_failure from None
        raise
    except WorkerGroupError as error:
        raise used_up(error, options.max_failures, folder, storage / FAILURE_LOG) from None
    except RayError as error:
        raise controller_lost(error, folder) from None


def _work(settings: dict[str, Any]) -> Results:
    """Run one worker, in a process group that Ray Train has made."""
    from pres_dist.training.run import start_or_resume

    job: Job = settings["job"]
    folder = _settle(job)
    outbox = Outbox(job.mailbox)
    relay = RelayProgress(outbox)
    logging.getLogger("pres_dist").addHandler(RelayHandler(relay))
    watch_for_shutdown(job.storage)
    try:
        nodes: list[str] = [""] * dist.get_world_size()
        dist.all_gather_object(nodes, ray.get_runtime_context().get_node_id())
        if dist.get_rank() == 0 and len(set(nodes)) > 1:
            relay.note(f"{len(nodes)} workers on {len(set(nodes))} nodes")
        return start_or_resume(job.config, folder, relay)
    finally:
        relay.stop()
        outbox.wait()


def _settle(job: Job) -> Path:
    """Give the worker the launcher's arguments and working folder; return the run's folder."""
    sys.argv[:] = job.arguments
    if not (job.storage / _SHARED).exists():
        raise ConfigError(
            f"{job.storage.parent}: the run folder must be on a file system that all nodes share, "
            f"but {socket.gethostname()} does not see it"
        )
    try:
        os.chdir(job.working_dir)
    except OSError:  # not on this node: absolute paths may still be right
        return job.working_dir / job.folder
    return job.folder


def _worker_environment(config: RunConfig, on_gpu: bool) -> dict[str, str]:
    variables = {LAUNCH: f"ray-{secrets.token_hex(8)}"}
    if config.training.num_threads:
        variables["OMP_NUM_THREADS"] = str(config.training.num_threads)
    for name in ("PRES_DIST_CACHE", FAILPOINTS):
        if name in os.environ:
            variables[name] = os.environ[name]
    if not on_gpu:  # otherwise torch uses GPUs that Ray has not assigned
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables


def _on_gpu(config: RunConfig, options: RayOptions, console: Progress) -> bool:
    """Return True if each worker uses a GPU."""
    device = config.training.device
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"training.device must be auto, cpu or cuda under Ray, which assigns GPUs itself; "
            f"got {device!r}"
        )
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "auto" and 0 < gpus < options.num_workers:
        console.note(f"only {gpus} GPUs for {options.num_workers} workers; training on CPUs")
    return device == "cuda" or (device == "auto" and gpus >= options.num_workers)


def _warn(options: RayOptions, console: Progress) -> None:
    """Report likely problems of the cluster.

    Ray waits for missing resources because the cluster may autoscale.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        console.note(
            "warning: this Ray cluster takes requests from anybody who reaches it; "
            "start it with RAY_AUTH_MODE=token"
        )
    nodes = sum(node["Alive"] for node in ray.nodes())
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if options.placement == "STRICT_SPREAD" and nodes < options.num_workers:
        console.note(f"waiting for the cluster to have {options.num_workers} nodes, now {nodes}")
    elif cpus < options.num_workers:
        console.note(f"waiting for the cluster to have {options.num_workers} CPUs, now {cpus}")


class _Trainer(TorchTrainer):
    """TorchTrainer that does not handle Ctrl-C, because the launcher shuts down Ray itself."""

    def _register_sigint_handler(self, controller: ActorHandle) -> None:
        pass


@contextmanager
def _showing(mailbox: ActorHandle, console: Progress) -> Iterator[None]:
    """Show progress from the mailbox while the block runs, and the rest when it ends.

    An exception while showing it, such as BrokenPipeError, ends the block.
    """
    ended = threading.Event()
    failures: list[BaseException] = []

    def show() -> None:
        try:
            last = False
            while not last:
                last = ended.wait(_POLL_S)
                replay(ray.get(mailbox.take.remote()), console)
        except BaseException as error:  # stored: the main thread raises it
            failures.append(error)
            if not ended.is_set():
                _thread.interrupt_main()

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if failures:
            forget_interrupt()
            raise failures[0] from None
        raise
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]
