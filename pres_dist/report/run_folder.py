"""The folder of a run: its name, its configuration and its environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.files import read_regular, write_atomically
from pres_dist.report.environment import describe_environment, launch_id
from pres_dist.report.run_lock import LOCK, RunLock, lock_run
from pres_dist.report.run_record import (
    RECORD,
    Parent,
    RunRecord,
    new_record,
    read_record,
    write_record,
)
from pres_dist.run_files import CONFIG, ENVIRONMENT

MIRROR = "mirror.txt"
"""File with the URL that a run was fetched from; this is its mirror, whatever config.yaml says."""


def create_run_folder(
    config: RunConfig,
    run_dir: Path | None = None,
    stream: Mapping[str, Any] | None = None,
    parent: Parent | None = None,
) -> RunLock:
    """Make the folder of a new run, lock it, and describe the run in it.

    If several processes use the same folder at the same time, only one succeeds.

    Args:
        config: Configuration of the run.
        run_dir: A new or empty folder; runs/NAME-DATE-TIME when None.
        stream: Identity of the events.
        parent: The checkpoint of another run that this one starts from.

    Raises:
        ConfigError: `run_dir` is not empty, is in use, or cannot be made.
    """
    try:
        if run_dir is None:
            folder = new_folder(config.name)
        else:
            check_given_folder(folder := run_dir)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # empty; or new, and the lock decides who gets it
                folder.mkdir()
        lock = lock_run(folder, 0)
        try:
            # The process that held the lock until now may have begun a run.
            check_given_folder(folder)
            environment = describe_environment(config.training.seed)
            write_atomically(folder / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
            record = new_record(dump_yaml(config), stream, parent)
            write_record(folder, record)
            write_atomically(folder / CONFIG, record.config)  # last: this file marks a run
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        place = error.filename or run_dir or "runs"
        raise ConfigError(f"{place}: cannot make a run folder: {error.strerror}") from None
    return lock


def begun_run_folder(run_dir: Path | None) -> Path | None:
    """Return the folder in which an earlier attempt of this launch began a run, or None.

    Under torchrun, all attempts of a launch share an id, which the folder records. A run that
    another launch left in `run_dir` does not count.

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
        environment = json.loads(read_regular(folder / ENVIRONMENT))
    except (OSError, ValueError, RecursionError):
        return None
    return environment.get("launch") if isinstance(environment, dict) else None


def read_config(run_dir: Path, stream: Path | None = None) -> RunConfig:
    """Return the configuration that a run was started with.

    Args:
        run_dir: Its folder.
        stream: New location of its stream; None for the configured one.

    Raises:
        ConfigError: `run_dir` is not the folder of a run, or its config.yaml is not what the
            run was started with.
        CheckpointError: its run.json is missing or damaged.
    """
    file = run_dir / CONFIG
    if not file.is_file():
        hint = f"; {_restore(run_dir)}" if (run_dir / RECORD).is_file() else ""
        raise ConfigError(f"{run_dir}: not the folder of a run: there is no {CONFIG} in it{hint}")
    record = read_record(run_dir)
    try:
        content = read_regular(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if content != record.config.encode():
        raise ConfigError(
            f"{file}: must be as the run was started with, but {_changed(content, record)}; "
            f"{_restore(run_dir)}, and `pres-dist train {file} --run-dir NEW` starts a run with "
            "other settings"
        )
    config = load_config(file)
    if stream is None:
        return config
    data = config.data.model_copy(update={"stream": str(stream)})
    return config.model_copy(update={"data": data})


def restore_config(run_dir: Path) -> None:
    """Restore the config.yaml that the run was started with.

    Raises:
        CheckpointError: run.json, which holds its text, is missing or damaged.
        ConfigError: it cannot be written.
    """
    record = read_record(run_dir)
    try:
        write_atomically(run_dir / CONFIG, record.config)
    except OSError as error:
        raise ConfigError(f"{run_dir / CONFIG}: cannot be written: {error.strerror}") from None


def _restore(run_dir: Path) -> str:
    return f"`pres-dist resume {run_dir} --restore-config` puts the original back"


def _changed(content: bytes, record: RunRecord) -> str:
    """Describe how a config.yaml differs from the one that the run was started with."""
    if not content.strip():
        return "it is empty"
    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        return "it is no longer YAML"
    if not isinstance(found, dict):
        return "it holds no `key: value` lines"
    before, now = _flat(yaml.safe_load(record.config)), _flat(found)
    keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
    told = [f"{key} was {_said(before, key)} and is {_said(now, key)} now" for key in keys[:5]]
    more = [f"{len(keys) - 5} more keys differ"] if len(keys) > 5 else []
    return ", ".join(told + more) or "it is written in another way"


def _flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _said(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "missing"


def check_given_folder(run_dir: Path) -> None:
    """Raise ConfigError unless `run_dir` is new or empty, DataError if it is in a stream."""
    from pres_dist.events.storage import check_outside_streams  # imports numpy, which --help avoids

    check_outside_streams(run_dir)
    if run_dir.exists() and not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: the run folder must be a folder, this is a file")
    # A start that was killed before it wrote config.yaml leaves some of these files.
    written = (ENVIRONMENT, RECORD)
    unfinished = tuple(f".{name}." for name in (*written, CONFIG))
    left = (LOCK, *written)
    if run_dir.is_dir() and not all(
        path.name in left or path.name.startswith(unfinished) for path in run_dir.iterdir()
    ):
        raise ConfigError(
            f"{run_dir}: the run folder must be new or empty; "
            f"`pres-dist resume {run_dir}` continues a run"
        )


def fresh_folders(name: str) -> Iterator[Path]:
    """Yield runs/NAME-DATE-TIME, then numbered names for runs that start in the same second."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in count(1):
        yield Path("runs") / (stem if number == 1 else f"{stem}-{number}")


def new_folder(name: str) -> Path:
    """Make and return a folder runs/NAME-DATE-TIME that did not exist before."""
    for folder in fresh_folders(name):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("fresh_folders() does not end")
