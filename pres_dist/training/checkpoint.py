"""Checkpoints of a run: written to a temporary folder, then published by one rename.

    RUN/checkpoints/LATEST, BEST     names of the newest checkpoint, and of the best epoch's
    RUN/checkpoints/step-00000012/   see `checkpoint_folder`

State is copied synchronously; a thread writes the copies while training continues.
"""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pres_dist.errors import CheckpointError, ConfigError
from pres_dist.failpoint import failpoint
from pres_dist.files import read_regular, write_atomically
from pres_dist.memory.saved import SavedMemory, write_tensors
from pres_dist.parallel.world import World
from pres_dist.report.run_record import id_of
from pres_dist.run_files import BEST, CHECKPOINTS, LATEST
from pres_dist.staging import sync
from pres_dist.training.background import Background
from pres_dist.training.checkpoint_folder import (
    MEMORY,
    STATE,
    check,
    files_of,
    hashes_of,
    read_tensors,
    seal,
    write_state,
)
from pres_dist.training.mirror import CheckpointMirror, MirrorTotals
from pres_dist.training.state import CheckpointState, checked

__all__ = ["BEST", "LATEST", "Checkpoint", "Checkpoints", "NoCheckpoints", "SaveTotals"]

_LONGEST = timedelta(minutes=10)
"""Timeout of collectives between workers that write a checkpoint together."""
_CLOSE_S = 30.0
"""Seconds that a failed run waits for a checkpoint that is being written."""


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint whose files have passed their check.

    Attributes:
        name: name of its folder.
        state: state that all workers share, not validated yet.
        memory: node memory, in its files.
        digest: SHA-256 of the state file, which identifies the checkpoint.
        run: id of the run that wrote it.
    """

    name: str
    state: dict[str, Any]
    memory: SavedMemory
    digest: str
    run: str | None

    @property
    def file(self) -> Path:
        """File that the state was read from."""
        return self.memory.folder.parent / STATE

    def training_state(self) -> CheckpointState:
        """Return the state with types and bounds checked; raise CheckpointError if one is wrong."""
        return checked(CheckpointState, self.state, self.file)


@dataclass
class SaveTotals(MirrorTotals):
    """Cost of saving on this worker.

    Attributes:
        saves: number of checkpoints begun.
        bytes: size of the files that this worker wrote.
        blocked_seconds: time that training was blocked: to copy state, to wait for other workers,
            and to wait for the preceding write.
        write_seconds: time that a thread wrote while training continued.
    """

    saves: int = 0
    bytes: int = 0
    blocked_seconds: float = 0.0
    write_seconds: float = 0.0


class Checkpoints:
    """Checkpoints of a run folder. A checkpoint that fails its check is never used.

    Args:
        run_dir: folder of the run.
        keep: number of newest checkpoints to keep; the best one is always kept too.
        world: workers that save together. If not all of them can access the run folder, rank 0
            writes the data of all.
        mirror: mirror that rank 0 copies checkpoints to.
        check_place: raises if `run_dir` is no longer the folder of this run; called before
            rank 0 changes anything in it.
    """

    def __init__(
        self,
        run_dir: Path,
        keep: int = 1,
        world: World | None = None,
        mirror: CheckpointMirror | None = None,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self._run_dir, self.folder = run_dir, run_dir / CHECKPOINTS
        self._check_place = check_place
        self._keep, self._world = keep, world or World()
        self._writers: World | None = None
        self._mirror = mirror
        self._background = Background("checkpoint")
        self._totals = SaveTotals()

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Add the duration of the block to the time that saving blocked training."""
        started = time.perf_counter()
        yield
        self._totals.blocked_seconds += time.perf_counter() - started

    def save(self, step: int, state: Mapping[str, Any], memory: Mapping[str, Tensor]) -> None:
        """Start to write a new checkpoint in the background; all workers take part.

        Args:
            step: step of the run, which names the checkpoint.
            state: state that all workers share; rank 0 writes its own.
            memory: named copies of the rows that this worker stores, see `own_memory`.

        Raises:
            CheckpointError: the preceding write failed; raised on all workers.
        """
        self.wait()
        if self._writers is None:
            self._writers = self._writing_world()
        # Serialized here, not in the thread: the next step changes weights in place.
        content = io.BytesIO()
        if self._world.is_rank0:
            torch.save(state, content)
        # Not a view of the buffer: Python 3.12.1 crashes when a failed write leaves one.
        self._background.begin(lambda: self._write(step, content.getvalue(), memory))
        self._totals.saves += 1

    def go_on_from(self, name: str) -> bool:
        """Point LATEST at the checkpoint that a run resumes from; later ones get overwritten.

        Returns:
            True if the best checkpoint is not an earlier one: it will be overwritten or
            evaluated again.
        """

        def point() -> bool:
            self._point(LATEST, name)
            return (self.folder / BEST).exists() and self.name(BEST) >= name

        return self._world.run_on_rank0(point)

    def mark_best(self) -> None:
        """Point BEST at the newest checkpoint, once that is written."""

        def mark() -> None:
            self._point(BEST, self.name(LATEST))
            self._prune()

        if self._world.is_rank0:
            self._background.begin(mark)

    def wait(self) -> None:
        """Wait until all checkpoints are on disk here; the mirror may lag behind.

        Raises:
            CheckpointError: a checkpoint could not be written.
            RuntimeError: another worker failed meanwhile (raised by gloo).
        """
        self._background.wait()

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Wait for writes under way, successful or not, but at most `timeout_s` seconds.

        The timeout matters if a worker failed: the threads of the others wait for it.
        """
        self._background.close(timeout_s)
        if self._mirror is not None:
            self._mirror.close(timeout_s)

    def take_totals(self) -> SaveTotals:
        """Return the cost of saving since the last call, and reset it."""
        totals, self._totals = self._totals, SaveTotals()
        if self._mirror is not None:
            vars(totals).update(vars(self._mirror.take_totals()))
        return totals

    def any(self) -> bool:
        """Return True if there is a newest checkpoint."""
        return (self.folder / LATEST).exists()

    def open(self, which: str = LATEST) -> Checkpoint:
        """Check and return the newest checkpoint, the best one, or the one of a given name.

        Raises:
            CheckpointError: there is no such checkpoint, or it fails its check.
        """
        self.wait()
        folder = self.folder / self.name(which)
        manifest, own = check(folder), id_of(self._run_dir)
        if manifest.run != own:
            raise CheckpointError(
                f"{folder}: must be a checkpoint of this run (id {own}), got one of run "
                f"{manifest.run}: was it copied here?"
            )
        state, memory = read_tensors(folder / STATE), SavedMemory.open(folder / MEMORY)
        return Checkpoint(folder.name, state, memory, manifest.sha256[STATE], own)

    def name(self, which: str) -> str:
        """Return the name of the newest, best or given checkpoint; CheckpointError if missing."""
        if which not in (LATEST, BEST):
            there = [folder.name for folder in self._complete()]
            if which not in there:
                raise CheckpointError(
                    f"{self.folder}: the checkpoint must be one of {', '.join(there)}, got {which}"
                )
            return which
        file = self.folder / which
        try:
            name = read_regular(file).decode(errors="replace").strip()
        except FileNotFoundError:
            raise CheckpointError(
                f"{self.folder}: there is no {which.lower()} checkpoint here"
            ) from None
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
        if not re.fullmatch(r"step-\d{8,}", name):
            raise CheckpointError(
                f"{file}: damaged: must name a checkpoint (step-00000012), got {name[:40]!r}; "
                "`pres-dist resume RUN --checkpoint NAME` takes one by its name"
            )
        return name

    def _writing_world(self) -> World:
        """Create the folder, and a process group for the collectives of the writing thread."""

        def make_folder() -> None:
            self._check_place()
            self.folder.mkdir(exist_ok=True)

        world = self._world
        world.run_on_rank0(make_folder)
        if world.size == 1:
            return world
        self._shared = all(world.gather(self.folder.is_dir()))
        return World(world.grid, dist.new_group(backend="gloo", timeout=_LONGEST))

    def _write(self, step: int, state: bytes, memory: Mapping[str, Tensor]) -> None:
        """Write a checkpoint into a temporary folder, on all workers, and publish it on rank 0."""
        started = time.perf_counter()
        final = self.folder / f"step-{step:08d}"
        partial = final.with_suffix(".tmp")
        world = self._writers
        assert world is not None

        def begin() -> None:
            self._check_place()
            write_state(partial, state)

        def publish() -> None:
            seal(partial, step, id_of(self._run_dir), hashes)
            self._check_place()  # again: hashing may have taken long
            if final.exists():  # left by a run that ended before LATEST could name it
                shutil.rmtree(final)
            partial.rename(final)  # atomic: a checkpoint is complete or not there
            sync(self.folder)
            self._point(LATEST, final.name)
            self._prune()

        try:
            world.run_on_rank0(begin)
            if world.size == 1 or self._shared:
                write_tensors(partial / MEMORY, memory, world.group)
            else:  # no common folder: rank 0 writes the rows of all workers
                rows = world.gather_to_rank0(dict(memory))
                whole = {name: tensor for own in rows for name, tensor in own.items()}
                world.run_on_rank0(lambda: write_tensors(partial / MEMORY, whole, None))
            files = files_of(partial, self._world.rank)
            self._totals.bytes += sum(file.stat().st_size for file in files)
            hashes = world.gather_to_rank0(hashes_of(partial, files))
            world.run_on_rank0(publish)
        except OSError as error:
            self._check_place()
            raise CheckpointError(f"{final}: cannot be written: {error.strerror}") from None
        finally:
            if world.is_rank0:
                # Leftovers stay if the folder now belongs to another run.
                with suppress(ConfigError):
                    self._check_place()
                    shutil.rmtree(partial, ignore_errors=True)
        failpoint("after_checkpoint")
        self._totals.write_seconds += time.perf_counter() - started

    def _point(self, which: str, name: str) -> None:
        self._check_place()
        write_atomically(self.folder / which, name + "\n")
        if self._mirror is not None:
            self._mirror.offer(which, name)

    def _prune(self) -> None:
        pinned = {self.name(which) for which in (LATEST, BEST) if (self.folder / which).exists()}
        if self._mirror is not None:
            pinned |= self._mirror.needs()
        for folder in self._complete()[: -self._keep]:
            if folder.name not in pinned:
                shutil.rmtree(folder)

    def _complete(self) -> list[Path]:
        """Return the folders of all complete checkpoints, in the order of their steps."""
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != ".tmp")


class NoCheckpoints:
    """Checkpoints of trainings that are never resumed: saves nothing."""

    def blocking(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def save(self, step: int, state: Mapping[str, Any], memory: Mapping[str, Tensor]) -> None:
        """Do nothing."""

    def mark_best(self) -> None:
        """Do nothing."""

    def wait(self) -> None:
        """Do nothing."""

    def take_totals(self) -> SaveTotals:
        """Return totals of zero."""
        return SaveTotals()

    def open(self, which: str = LATEST) -> Checkpoint:
        """Raise CheckpointError."""
        raise CheckpointError(f"there is no {which.lower()} checkpoint: none were written")
