"""`train` and `resume`: execute a run from its configuration to its results."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from pres_dist import arguments
from pres_dist.config.ineffective import ineffective
from pres_dist.config.places import with_absolute_places
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError, DataError
from pres_dist.events.builtin import check_stream_there
from pres_dist.events.identity import check_same_events
from pres_dist.files import keep, write_atomically
from pres_dist.parallel.grid import training_grid
from pres_dist.parallel.join import join_world
from pres_dist.parallel.world import World
from pres_dist.records import Results
from pres_dist.report.html import write_report
from pres_dist.report.metric_sinks import RayMetrics, TensorBoard
from pres_dist.report.metrics_log import MetricsLog, MetricsSink
from pres_dist.report.progress import LogProgress, Progress
from pres_dist.report.run_folder import (
    begun_run_folder,
    check_given_folder,
    create_run_folder,
    read_config,
)
from pres_dist.report.run_lock import PREDECESSOR_S, RunLock, lock_run
from pres_dist.report.run_record import read_record
from pres_dist.run_files import CALIBRATION, LATEST, RESULTS
from pres_dist.training.calibration import calibrate, with_batch_size
from pres_dist.training.checkpoint import Checkpoint, Checkpoints
from pres_dist.training.compiled import check_compiler
from pres_dist.training.evaluate_run import final_metrics
from pres_dist.training.mirror import CheckpointMirror, check_mirror, open_mirror
from pres_dist.training.setup import Parts, assembled, choose_device
from pres_dist.training.state import NONE_YET
from pres_dist.training.stores import ray_runs_here, without_servers
from pres_dist.training.tasks.pretrained import load_encoder
from pres_dist.training.trainer import Trainer

_log = logging.getLogger(__name__)


def train(
    config: RunConfig, run_dir: Path | None = None, console: Progress | None = None
) -> Results:
    """Train a model from scratch and evaluate its best epoch.

    Args:
        config: configuration of the run.
        run_dir: new or empty folder for the run; runs/NAME-DATE-TIME when None.
        console: progress reporter; None logs progress at level INFO.

    Returns:
        Content of results.json: validation and test metrics, and the settings behind them.

    Raises:
        ConfigError: a setting cannot be used here, or the folder is in use.
        DataError: the stream cannot be used.
        NonFiniteError: the loss became NaN or infinite.
    """
    config = with_absolute_places(config)
    with _workers(config, console) as (device, world, progress):
        world.run_on_rank0(partial(check_mirror, config))
        asked, found = config, None
        if config.training.batch_size == "auto":
            if run_dir is not None:
                world.run_on_rank0(partial(check_given_folder, run_dir))
            found = calibrate(config, device, world, progress)
            config = with_batch_size(config, found.batch_size)
        with assembled(config, device, world) as parts:
            if world.is_rank0:
                for line in ineffective(asked, world.grid.memory_workers):
                    _log.warning("%s", line)
            parent, stream = load_encoder(parts), parts.data.stream
            with _writing(
                lambda: create_run_folder(config, run_dir, stream.identity, parent),
                world,
            ) as place:
                if found is not None and world.is_rank0:
                    text = json.dumps(asdict(found), indent=1)
                    keep(place.folder / CALIBRATION, text + "\n")
                return _run(parts, place, progress, None)


def start_or_resume(
    config: RunConfig, run_dir: Path | None, console: Progress | None = None
) -> Results:
    """Train in a folder that an earlier attempt at the same run may have begun.

    Launchers that restart failed workers call this: it resumes from the newest checkpoint,
    or starts from the beginning if there is none yet.

    Args:
        config: configuration of the run.
        run_dir: folder of the run; None for the folder that this launch of torchrun
            created, or a new one.
        console: progress reporter; None logs progress at level INFO.

    Raises:
        ConfigError, DataError, NonFiniteError: as in `train`; ConfigError also if
            another process writes into the folder.
        CheckpointError: the newest checkpoint fails its check.
    """
    with _workers(config, console) as (device, world, progress):
        begun = world.run_on_rank0(lambda: begun_run_folder(run_dir))
        if begun is None:
            return train(config, run_dir, console)
        with _writing(lambda: lock_run(begun, PREDECESSOR_S), world) as place:
            config = world.run_on_rank0(lambda: read_config(begun))  # as at the start of the run
            check_stream_there(begun, config)
            checkpoints = Checkpoints(begun)
            newest = world.run_on_rank0(lambda: checkpoints.open() if checkpoints.any() else None)
            with assembled(config, device, world) as parts:
                if newest is None:
                    load_encoder(parts)
                return _run(parts, place, progress, newest)


@arguments.checked_call
def resume(
    run_dir: Path | str,
    console: Progress | None = None,
    checkpoint: str = LATEST,
    stream: Path | str | None = None,
    device: str | None = None,
) -> Results:
    """Resume a run from a checkpoint; on the CPU the result is bit-identical.

    Args:
        run_dir: folder of the run.
        console: progress reporter; None logs progress at level INFO.
        checkpoint: name of an older checkpoint, in case the newest is damaged.
        stream: new location of the run's stream; unchanged when None.
        device: new value of `training.device`; unchanged when None.

    Raises:
        CheckpointError: there is no usable checkpoint, or it is of other events.
        ConfigError: `run_dir` is not the folder of a run, or another process writes into it.
    """
    run_dir = arguments.path("run_dir", run_dir)
    config = read_config(run_dir, None if stream is None else arguments.path("stream", stream))
    check_stream_there(run_dir, config)
    if device is not None:
        training = config.training.model_copy(update={"device": device})
        config = config.model_copy(update={"training": training})
    with _workers(config, console) as (chosen, world, progress):
        if config.memory.store == "server" and not ray_runs_here():
            progress.note("no Ray runs here for memory.store: server; going on with store: auto")
            config = without_servers(config)
        with _writing(lambda: lock_run(run_dir, PREDECESSOR_S), world) as place:
            newest = world.run_on_rank0(lambda: Checkpoints(run_dir).open(checkpoint))
            with assembled(config, chosen, world) as parts:
                return _run(parts, place, progress, newest)


@contextmanager
def _workers(
    config: RunConfig, console: Progress | None
) -> Iterator[tuple[torch.device, World, Progress]]:
    """Join the workers of a run; yield the device, the workers and the progress reporter.

    Raises:
        ConfigError: the run cannot be trained on this device, or by these workers.
    """
    device = choose_device(config)
    if config.training.compile:
        check_compiler(device)
    grid_of = partial(training_grid, config.parallel)
    with join_world(device, grid_of, config.parallel.timeout_s) as world:
        yield device, world, (console or LogProgress()) if world.is_rank0 else Progress()


@dataclass(frozen=True)
class _Place:
    """Run folder that is locked for this launch.

    Attributes:
        folder: the run folder.
        check: raises ConfigError if another folder has replaced it; does nothing on ranks
            other than 0, which holds the lock.
    """

    folder: Path
    check: Callable[[], None]


@contextmanager
def _writing(lock: Callable[[], RunLock], world: World) -> Iterator[_Place]:
    """Hold the lock of a run folder on rank 0 while the block runs.

    Args:
        lock: acquires the lock; called on rank 0. All workers re-raise its errors.
        world: the workers.
    """
    held: list[RunLock] = []

    def take() -> Path:
        held.append(lock())
        return held[0].folder

    try:
        folder = world.run_on_rank0(take)
        yield _Place(folder, held[0].check if held else lambda: None)
    finally:
        for each in held:
            each.release()


def _run(parts: Parts, place: _Place, progress: Progress, newest: Checkpoint | None) -> Results:
    """Train, from a checkpoint if there is one; evaluate the best epoch and write the results."""
    config, world, folder = parts.config, parts.world, place.folder
    record = world.run_on_rank0(lambda: read_record(folder))
    check_same_events(parts.data.stream, record.stream)
    mirrors: list[CheckpointMirror | None] = []  # on rank 0 only, which alone has files to upload
    world.run_on_rank0(lambda: mirrors.append(open_mirror(config, folder, place.check)))
    mirror = mirrors[0] if mirrors else None
    checkpoints = Checkpoints(folder, config.training.keep_checkpoints, world, mirror, place.check)
    log: MetricsSink = MetricsSink()
    if world.is_rank0:
        live: list[MetricsSink] = [TensorBoard(folder)] if config.training.tensorboard else []
        log = MetricsLog(folder, [*live, RayMetrics(folder.name)] if ray_runs_here() else live)
    try:
        trainer = Trainer(parts, checkpoints, log, progress)
        progress.note(f"run folder: {folder}")
        if world.size > 1:
            grid = world.grid
            text = f"{grid.size} workers, {grid.slices} time slices of every temporal batch"
            if grid.epochs > 1:
                text += f", {grid.epochs} groups with negatives of their own"
            if grid.replicas > 1:
                text += f", {grid.replicas} memory replicas"
            progress.note(text)
        asked, largest = config.training.events_per_batch, parts.train_loader.largest_batch
        if largest > asked:
            progress.note(
                f"temporal batches have up to {largest:,} events, more than "
                f"training.batch_size {asked:,}: events of equal time stay together"
            )
        elif largest < asked:
            progress.note(
                f"an epoch is one temporal batch of {largest:,} events, at the learning rate for "
                f"training.batch_size {asked:,}"
            )
        if newest is not None:
            trainer.load(newest)
            if checkpoints.go_on_from(newest.name):
                # Another device may measure other metrics: BEST must be of the epochs that follow.
                trainer.state.best_metric = NONE_YET
            log.truncate_after(trainer.state.step)
            where = trainer.state
            progress.note(f"resumed at epoch {where.epoch}, batch {where.batch}, step {where.step}")
        else:
            log.truncate_after(-1)
        trainer.fit()
        trainer.restore_best()
        results: Results = {
            **final_metrics(parts, config.evaluation),
            "best_epoch": trainer.state.best_epoch,
            "seconds": trainer.seconds(),
        }
        place.check()
        log.write({"kind": "final", "step": trainer.state.step, **results})
    finally:
        checkpoints.close()
        log.close()

    def publish() -> None:
        place.check()
        progress.results(results)
        try:
            write_atomically(folder / RESULTS, json.dumps(results, indent=1) + "\n")
        except OSError as error:
            raise ConfigError(
                f"{folder / RESULTS}: cannot be written: {error.strerror}; `pres-dist resume "
                f"{folder}` writes it once there is room"
            ) from None
        try:
            report = write_report(folder)
            if report is not None:
                progress.note(f"report: {report}")
        except DataError as error:  # the run is complete; `pres-dist resume` retries the report
            _log.warning("%s", error)
        if mirror is not None:
            mirror.finish()

    # All workers wait here, so that a rank 0 that hangs while publishing is detected.
    world.run_on_rank0(publish)
    return results
