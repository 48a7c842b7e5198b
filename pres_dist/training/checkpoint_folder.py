"""Folder of one checkpoint: its files, their hashes, and the check before they are used.

state.pt          state that all workers share: weights, optimizer, position
memory/           node memory, one file per worker
manifest.json     a hash of every file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pres_dist.errors import CheckpointError, first_line
from pres_dist.files import read_regular, sha256, write_atomically
from pres_dist.memory.saved_metadata import METADATA
from pres_dist.staging import sync
from pres_dist.tensor_files import load_tensors

STATE, MEMORY, MANIFEST = "state.pt", "memory", "manifest.json"
VERSION = 3


def write_state(folder: Path, content: bytes) -> None:
    """Create an empty folder, replacing an old one, and write the state into it durably."""
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
    folder.mkdir()  # no parents=True: do not recreate a run folder that was moved away
    (folder / MEMORY).mkdir()
    write_atomically(folder / STATE, content)


def files_of(folder: Path, worker: int) -> list[Path]:
    """Return the files that a worker wrote; on rank 0 also the state and the memory's metadata."""
    files = sorted((folder / MEMORY).glob(f"__{worker}_*"))
    return files if worker else [*files, folder / MEMORY / METADATA, folder / STATE]


def hashes_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of files, by their path in the folder."""
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def seal(folder: Path, step: int, run: str | None, hashes: Sequence[dict[str, str]]) -> None:
    """Write the manifest from the hashes of all workers; the folder is immutable afterwards."""
    found = {name: digest for each in hashes for name, digest in sorted(each.items())}
    manifest = {"version": VERSION, "run": run, "step": step, "sha256": found}
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    sync(folder / MEMORY)
    sync(folder)


@dataclass(frozen=True)
class Manifest:
    """Content of the manifest of a checkpoint.

    Attributes:
        run: id of the run that wrote it.
        sha256: SHA-256 of each file, by its path in the folder.
    """

    run: str | None
    sha256: Mapping[str, str]


def check(folder: Path) -> Manifest:
    """Check that every file is unchanged since it was written, and that there are no others.

    Raises:
        CheckpointError: a file is changed, missing or not in the manifest.
    """
    try:
        manifest = json.loads(read_regular(folder / MANIFEST))
        version, expected = manifest["version"], dict(manifest.get("sha256", {}))
        if version != VERSION:
            raise CheckpointError(f"{folder}: checkpoint version must be {VERSION}, got {version}")
        there = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
        }
        missing = ({STATE, f"{MEMORY}/{METADATA}"} | there) - {MANIFEST} - set(expected)
        if missing:
            raise CheckpointError(f"{folder / MANIFEST}: must name {', '.join(sorted(missing))}")
        outside = [name for name in expected if leaves(name)]
        if outside:
            raise CheckpointError(
                f"{folder / MANIFEST}: names must stay in the folder, got {outside[0]!r}"
            )
        found = hashes_of(folder, [folder / name for name in expected])
        run = manifest.get("run")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = (
            f"{error.filename}: {error.strerror}"
            if isinstance(error, OSError) and error.filename
            else str(error)
        )
        raise CheckpointError(f"{folder}: not a complete checkpoint: {reason}") from None
    for name, digest in expected.items():
        if found[name] != digest:
            raise CheckpointError(
                f"{folder / name}: damaged: its sha256 must be {digest}, got {found[name]}"
            )
    return Manifest(run if isinstance(run, str) else None, expected)


def leaves(name: str) -> bool:
    """Return True if a relative file name points outside its folder."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name


def read_tensors(file: Path) -> dict[str, Any]:
    """Load a file written by `torch.save`, without running code that it may contain.

    Raises:
        CheckpointError: the file holds anything but tensors and plain values.
    """
    try:
        state = load_tensors(file)
        if not isinstance(state, dict):
            raise TypeError(f"got {type(state).__name__}")
    except Exception as error:  # a damaged or foreign pickle raises many kinds
        raise CheckpointError(
            f"{file}: must hold tensors and plain values, cannot be read: {first_line(error)}"
        ) from None
    return state
