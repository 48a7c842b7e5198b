"""Checkpoints: written to one side, hashed, synced, then put in place by one rename."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from pres_dist.errors import CheckpointError
from pres_dist.files import sha256, sync_folder, write_atomically
from pres_dist.report.run_folder import BEST, CHECKPOINTS, LATEST

__all__ = ["BEST", "LATEST", "Checkpoints", "NoCheckpoints"]

STATE, MANIFEST = "state.pt", "manifest.json"
VERSION = 1


class Checkpoints:
    """The checkpoints of a run folder.

    A checkpoint is a folder `step-N` with the state and a manifest that holds its
    hash. LATEST and BEST are files that name one. A checkpoint that fails its check
    is never used.

    Args:
        run_dir: folder of the run.
        keep: newest checkpoints to keep; the best one is kept besides.
    """

    def __init__(self, run_dir: Path, keep: int = 1) -> None:
        self.folder = run_dir / CHECKPOINTS
        self._keep = keep

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state as the newest checkpoint, and drop those no longer kept.

        Raises:
            CheckpointError: it cannot be written; those before are as they were.
        """
        try:
            self._save(step, state)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{self.folder}: cannot be written: {reason}") from None

    def _save(self, step: int, state: dict[str, Any]) -> None:
        self.folder.mkdir(exist_ok=True)
        final = self.folder / f"step-{step:08d}"
        partial = final.with_suffix(".tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with (partial / STATE).open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        manifest = {"version": VERSION, "step": step, "sha256": {STATE: sha256(partial / STATE)}}
        write_atomically(partial / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        self._put_in_place(partial, final)
        write_atomically(self.folder / LATEST, final.name + "\n")
        self._prune()

    def any(self) -> bool:
        """Whether there is a newest checkpoint."""
        return (self.folder / LATEST).exists()

    def mark_best(self) -> None:
        """Let BEST name the newest checkpoint."""
        write_atomically(self.folder / BEST, self.name(LATEST) + "\n")
        self._prune()

    def load(self, which: str = LATEST, device: torch.device | str = "cpu") -> dict[str, Any]:
        """State of the newest or best checkpoint.

        Raises:
            CheckpointError: there is none, or it fails its check.
        """
        folder = self.folder / self.name(which)
        self._check(folder)
        state: dict[str, Any] = torch.load(folder / STATE, map_location=device, weights_only=True)
        return state

    def _check(self, folder: Path) -> None:
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            version, expected = manifest["version"], manifest["sha256"][STATE]
            found = sha256(folder / STATE)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}: not a complete checkpoint: {error}") from None
        if version != VERSION:
            raise CheckpointError(f"{folder}: checkpoint version must be {VERSION}, got {version}")
        if found != expected:
            raise CheckpointError(
                f"{folder / STATE}: damaged: its sha256 must be {expected}, got {found}"
            )

    def name(self, which: str) -> str:
        """Name of the newest or best checkpoint; CheckpointError where there is none."""
        try:
            return (self.folder / which).read_text().strip()
        except OSError:
            raise CheckpointError(
                f"{self.folder}: there is no {which.lower()} checkpoint here"
            ) from None

    def _put_in_place(self, partial: Path, final: Path) -> None:
        sync_folder(partial)
        if final.exists():  # left by a run that ended before LATEST could name it
            shutil.rmtree(final)
        partial.rename(final)
        sync_folder(self.folder)

    def _prune(self) -> None:
        pinned = {self.name(which) for which in (LATEST, BEST) if (self.folder / which).exists()}
        complete = sorted(path for path in self.folder.glob("step-*") if path.suffix != ".tmp")
        for folder in complete[: -self._keep]:
            if folder.name not in pinned:
                shutil.rmtree(folder)


class NoCheckpoints:
    """Saves nothing: for a training that nobody goes on with."""

    def save(self, step: int, state: dict[str, Any]) -> None:
        pass

    def mark_best(self) -> None:
        pass

    def load(self, which: str = LATEST, device: torch.device | str = "cpu") -> dict[str, Any]:
        raise CheckpointError(f"there is no {which.lower()} checkpoint: none were written")
