"""run.json: the identity of a run, written when it begins and never changed.

It holds the run's id, which its checkpoints repeat, the identity of its stream, and the exact text
of config.yaml, so that a changed or damaged configuration is detected and can be restored.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.config.sealed import Sealed, read_sealed, write_sealed
from pres_dist.errors import CheckpointError, ConfigError

RECORD = "run.json"
ID = r"^[0-9a-f]{32}$"


class Parent(Config):
    """The checkpoint of another run whose weights this run started from."""

    run: str = Field(pattern=ID)
    checkpoint: str


class RunRecord(Sealed):
    """The content of run.json."""

    version: Literal[1] = 1
    run: str = Field(pattern=ID)
    """The run's id."""
    parent: Parent | None = None
    stream: dict[str, Any] = Field(default_factory=dict)
    """Identity of the run's events (`pres_dist.events.identity`)."""
    config: str
    """Text of the run's config.yaml."""


def new_record(
    config: str, stream: Mapping[str, Any] | None, parent: Parent | None = None
) -> RunRecord:
    """Return the record of a new run, with an id that no other run has."""
    return RunRecord(run=uuid.uuid4().hex, parent=parent, stream=dict(stream or {}), config=config)


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Write run.json durably."""
    write_sealed(run_dir / RECORD, record)


def read_record(run_dir: Path) -> RunRecord:
    """Read and check run.json.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return read_sealed(run_dir / RECORD, RunRecord)
    except FileNotFoundError:
        raise CheckpointError(
            f"{run_dir / RECORD}: no such file: nothing else tells which run the folder is of "
            "(earlier revisions wrote none, and their runs are not read)"
        ) from None


def id_of(run_dir: Path) -> str | None:
    """Return the id of the run in a folder; None if there is no run.json."""
    return read_record(run_dir).run if (run_dir / RECORD).exists() else None


def check_same_run(run_dir: Path, run: str | None) -> None:
    """Raise ConfigError if the folder now holds another run than the one that was read."""
    if id_of(run_dir) != run:
        raise ConfigError(
            f"{run_dir}: must stay in its place while it is used, and another run is there now; "
            "nothing is written into that"
        )
