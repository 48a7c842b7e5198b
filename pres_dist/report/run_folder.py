"""The folder of a run: its name, its configuration and where it was computed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment, launch_id
from pres_dist.report.run_lock import LOCK, Note, RunLock, lock_run, warn

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
RESULTS = "results.json"
CALIBRATION = "calibration.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
LATEST, BEST = "LATEST", "BEST"


def create_run_folder(config: RunConfig, run_dir: Path | None = None, note: Note = warn) -> RunLock:
    """Make the folder of a new run, with config.yaml and environment.json in it, and lock it.

    Of several processes that are given the same folder at the same time, one gets it.

    Args:
        config: What will be computed.
        run_dir: A new or empty folder; runs/NAME-DATE-TIME when None.
        note: Receives a warning, see `lock_run`.

    Raises:
        ConfigError: `run_dir` holds something already, is in use, or cannot be made.
    """
    try:
        folder = new_folder(config.name) if run_dir is None else _given_folder(run_dir)
        lock = lock_run(folder, 0, note)
        try:
            # The process that held the lock until now may have begun a run.
            check_given_folder(folder)
            environment = describe_environment(config.training.seed)
            write_atomically(folder / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
            write_atomically(folder / CONFIG, dump_yaml(config))
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        place = error.filename or run_dir or "runs"
        raise ConfigError(f"{place}: cannot make a run folder: {error.strerror}") from None
    return lock


def begun_run_folder(run_dir: Path | None) -> Path | None:
    """The folder in which an earlier attempt of this launch began a run; None if none did.

    Under torchrun that is a folder that notes the id which all attempts of one launch
    share: a run that another launch left in `run_dir` is none of this one's business.

    Args:
        run_dir: where the run is to be; None to look through runs/.
    """
    launch = launch_id()
    if run_dir is not None:
        begun = (run_dir / CONFIG).is_file() and launch in (None, _noted_launch(run_dir))
        return run_dir if begun else None
    folders = [path.parent for path in Path("runs").glob(f"*/{CONFIG}")] if launch else []
    return max(
        (folder for folder in folders if _noted_launch(folder) == launch),
        key=lambda folder: (folder / CONFIG).stat().st_mtime,
        default=None,
    )


def _noted_launch(folder: Path) -> str | None:
    try:
        environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return environment.get("launch") if isinstance(environment, dict) else None


def read_config(run_dir: Path) -> RunConfig:
    """The configuration that a run was started with.

    Raises:
        ConfigError: `run_dir` is not the folder of a run, or its config.yaml is damaged.
    """
    if not (run_dir / CONFIG).is_file():
        raise ConfigError(f"{run_dir}: not the folder of a run: there is no {CONFIG} in it")
    return load_config(run_dir / CONFIG)


def check_given_folder(run_dir: Path) -> None:
    """Raise ConfigError unless `run_dir` is new or empty."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: the run folder must be a folder, this is a file")
    if run_dir.is_dir() and not all(_left_by_a_start(path.name) for path in run_dir.iterdir()):
        raise ConfigError(
            f"{run_dir}: the run folder must be new or empty; "
            f"`pres-dist resume {run_dir}` continues a run"
        )


def _left_by_a_start(name: str) -> bool:
    """Return whether a start leaves such a file when it is killed before config.yaml is there."""
    return name in (LOCK, ENVIRONMENT) or name.startswith((f".{ENVIRONMENT}.", f".{CONFIG}."))


def fresh_folders(name: str) -> Iterator[Path]:
    """runs/NAME-DATE-TIME, then numbered ones, for runs that start in the same second."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in count(1):
        yield Path("runs") / (stem if number == 1 else f"{stem}-{number}")


def new_folder(name: str) -> Path:
    """Make a folder runs/NAME-DATE-TIME that was not there before."""
    for folder in fresh_folders(name):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("fresh_folders() does not end")


def _given_folder(run_dir: Path) -> Path:
    check_given_folder(run_dir)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # empty; or made by another process, which the lock decides
        run_dir.mkdir()
    return run_dir
