"""Run folders as somebody makes them who can write every hash: only content is left to check."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pres_dist.config.sealed import read_sealed, write_sealed
from pres_dist.events.stream import EventStream
from pres_dist.files import sha256
from pres_dist.inference import versions
from pres_dist.report.run_record import read_record, write_record
from pres_dist.run_files import CHECKPOINTS, CONFIG
from pres_dist.training.checkpoint_folder import MANIFEST, STATE, read_tensors


def reseal(checkpoint: Path) -> None:
    """Write the hashes of a checkpoint's files, as they are, into its manifest."""
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    manifest["sha256"] = {
        path.relative_to(checkpoint).as_posix(): sha256(path)
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))


def change_state(run_dir: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the state of every checkpoint of a run, and write its hash."""
    for checkpoint in (run_dir / CHECKPOINTS).glob("step-*"):
        state = read_tensors(checkpoint / STATE)
        change(state)
        torch.save(state, checkpoint / STATE)
        reseal(checkpoint)


def change_record(run_dir: Path, **values: Any) -> None:
    """Change run.json, and write its hash."""
    write_record(run_dir, read_record(run_dir).model_copy(update=values))


def change_version(folder: Path, **values: Any) -> None:
    """Change the manifest of a version of an extended run, and write its hash."""
    file = folder / versions.MANIFEST
    write_sealed(file, read_sealed(file, versions.Version).model_copy(update=values))


def forged(run_dir: Path, stream: EventStream, folder: Path) -> Path:
    """A copy of a run that says that it was trained on another stream, which is stored."""
    shutil.copytree(run_dir, folder)
    lines = (folder / CONFIG).read_text().splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("  stream:"))
    lines[place] = f"  stream: {stream.path}"
    config = "\n".join(lines) + "\n"
    (folder / CONFIG).write_text(config)
    identity: Mapping[str, Any] = stream.identity
    change_record(folder, config=config, stream=dict(identity))
    change_state(folder, lambda state: state.update(fingerprint=dict(identity)))
    return folder
