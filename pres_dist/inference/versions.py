"""Current events and memory of a run: those of its training, or of its newest extension.

    RUN/extended/CURRENT             name of the current version
    RUN/extended/version-00001/
        stream/                      all events: those of training, and appended ones
        memory.pt                    memory after all events
        weights.pt, ...              only if weights were trained further (`inference/tuned.py`)
        manifest.json                id of the run, ends of segments, and hashes

Versions are written to a temporary folder, synced and renamed; CURRENT is replaced last. The
run's own stream and checkpoints do not change.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from pres_dist.config.run import RunConfig
from pres_dist.config.sealed import SHA256, Sealed, read_sealed, write_sealed
from pres_dist.errors import CheckpointError
from pres_dist.events.builtin import check_stream_there
from pres_dist.events.identity import check_same_events, differences
from pres_dist.events.stream import EventStream
from pres_dist.files import read_regular, sha256, write_atomically
from pres_dist.inference.node_numbering import NodeNumbering, remap_nodes
from pres_dist.inference.tuned import Tuned, TunedEntry, read_memory, write_tensors
from pres_dist.memory.state import Tables
from pres_dist.report.run_record import id_of
from pres_dist.staging import Staged
from pres_dist.training.checkpoint import BEST, Checkpoint, Checkpoints
from pres_dist.training.setup import Data, data_of, load_data, split_of

EXTENDED, CURRENT = "extended", "CURRENT"
STREAM, MEMORY, MANIFEST = "stream", "memory.pt", "manifest.json"


class Version(Sealed):
    """Contents of a version's manifest.json.

    Attributes:
        run: id of the run that was extended.
        parent, parent_sha256: checkpoint of the weights, or that their further training started
            from.
        stream: identity of all events.
        trained: node numbering of the checkpoint.
        segments: see `RunState`.
        memory_sha256: SHA-256 of memory.pt.
        tuned: weights that were trained further, if any.
    """

    version: Literal[2] = 2
    run: str | None
    parent: str
    parent_sha256: str = Field(pattern=SHA256)
    stream: dict[str, Any]
    trained: NodeNumbering
    segments: list[Annotated[int, Field(ge=0)]]
    memory_sha256: str = Field(pattern=SHA256)
    tuned: TunedEntry | None = None


@dataclass(frozen=True)
class RunState:
    """State that the use of a run starts from.

    Attributes:
        data: stream of the run, and the split that it was trained with.
        segments: ends of the segments after the training split that temporal batches do not
            cross.
        weights: weights of the best epoch.
        memory: state of a `LocalStore` of all nodes.
        memory_end: first event that the memory has not seen.
        checkpoint: name of the checkpoint of the weights.
        digest: SHA-256 of the state of the checkpoint.
        trained: node numbering of the checkpoint.
        tuned: weights that were trained further and replace those of the checkpoint, if any.
    """

    data: Data
    segments: Sequence[int]
    weights: Mapping[str, Any]
    memory: Tables
    memory_end: int
    checkpoint: str
    digest: str
    trained: NodeNumbering
    tuned: Tuned | None = None

    @property
    def weights_name(self) -> str:
        """Name of these weights, unique within the run."""
        return self.checkpoint + (f"+{self.tuned.digest[:8]}" if self.tuned else "")

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the file of these weights."""
        return self.tuned.digest if self.tuned else self.digest

    def data_over(self, stream: EventStream, config: RunConfig, device: torch.device) -> Data:
        """Return the data of a longer stream, split like this one."""
        data = extended_data(stream, self.trained, config, device)
        return data if self.tuned is None else self.tuned.over(data)


def open_state(
    run_dir: Path, config: RunConfig, device: torch.device, until: int | None = None
) -> RunState:
    """Open the state of a run, with the newest memory available.

    Args:
        run_dir: folder of the run.
        config: its configuration.
        device: device of the columns of the stream.
        until: use only memory that has not seen this event or later ones.

    Raises:
        CheckpointError: there is no usable checkpoint, it belongs to other events, or the
            extension is damaged.
        DataError: the stream cannot be used.
    """
    best = Checkpoints(run_dir).open(BEST)
    folder = current_version(run_dir)
    if folder is not None:
        return _extended(folder, config, device, best, until)
    check_stream_there(run_dir, config)
    data = load_data(config, device)
    trained = best.training_state()
    check_same_events(data.stream, trained.fingerprint)
    return RunState(
        data=data,
        segments=[data.split.validation_end, data.split.num_events],
        weights=trained.model,
        memory=best.memory.last(),
        memory_end=data.split.train_end,
        checkpoint=best.name,
        digest=best.digest,
        trained=NodeNumbering.of(data.stream),
    )


def extended_data(
    stream: EventStream, trained: NodeNumbering, config: RunConfig, device: torch.device
) -> Data:
    """Return the data of an extended stream, with the split that the run was trained with."""
    split = split_of(config.data, stream.head(trained.num_events))
    # The decoder keeps its inputs, even if new events make a source a destination.
    return replace(data_of(stream, split, config, device), log_bipartite=trained.bipartite)


def current_version(run_dir: Path) -> Path | None:
    """Return the folder of the current version; None if the run was never extended."""
    file = run_dir / EXTENDED / CURRENT
    try:
        name = read_regular(file).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    if not re.fullmatch(r"version-\d{5,}", name):
        raise CheckpointError(
            f"{file}: damaged: must name a version (version-00001), got {name[:40]!r}"
        )
    return file.parent / name


def new_version(run_dir: Path) -> Staged:
    """Return an empty folder for the next version, hidden until `publish`."""
    current = current_version(run_dir)
    number = 1 if current is None else int(current.name.rsplit("-", 1)[1]) + 1
    staged = Staged(run_dir / EXTENDED / f"version-{number:05d}", folder=True)
    staged.target.parent.mkdir(parents=True, exist_ok=True)
    staged.create()
    return staged


def publish(staged: Staged, state: RunState) -> Path:
    """Write memory and manifest of a new version, and make it the current one."""
    folder, final = staged.path, staged.target
    write_tensors(folder / MEMORY, state.memory)
    manifest = Version(
        run=id_of(final.parents[1]),
        parent=state.checkpoint,
        parent_sha256=state.digest,
        stream=state.data.stream.identity,
        trained=state.trained,
        segments=list(state.segments),
        memory_sha256=sha256(folder / MEMORY),
        tuned=None if state.tuned is None else state.tuned.write(folder),
    )
    write_sealed(folder / MANIFEST, manifest)
    staged.publish()  # replaces a version left by a crash before CURRENT was written
    write_atomically(final.parent / CURRENT, final.name + "\n")
    for other in final.parent.glob("version-*"):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def _extended(
    folder: Path,
    config: RunConfig,
    device: torch.device,
    best: Checkpoint,
    until: int | None,
) -> RunState:
    try:
        manifest = read_sealed(folder / MANIFEST, Version)
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: not a complete extension: no {MANIFEST}") from None
    own = id_of(folder.parents[1])
    if manifest.run != own:
        raise CheckpointError(
            f"{folder}: must be an extension of this run (id {own}), got one of run "
            f"{manifest.run}: was it copied here?"
        )
    trained, segments = manifest.trained, list(manifest.segments)
    # If the run was trained again since, its weights differ: recompute the memory from them.
    holds = manifest.parent_sha256 == best.digest
    tuned = Tuned.read(folder, manifest.tuned) if holds and manifest.tuned else None
    stream = EventStream.verify(folder / STREAM)
    told = differences(manifest.stream, stream.identity)
    if told:
        raise CheckpointError(
            f"{stream.path}: must be the stream that the run was extended to, and holds other "
            f"events: different {', '.join(told)}"
        )
    data = extended_data(stream, trained, config, device)
    if not holds:
        segments = sorted({data.split.validation_end, trained.num_events, *segments})
    weights, memory, numbers = best.training_state().model, best.memory.last(), trained
    if tuned is not None:
        data, numbers = tuned.over(data), tuned.trained
        weights, memory = tuned.state.model, tuned.memory
    end = data.split.train_end
    if holds and (until is None or until >= stream.num_events):
        held = read_memory(folder / MEMORY, manifest.memory_sha256, stream.num_nodes)
        end = stream.num_events
    else:  # the memory at the end of the training of the weights, from which a walk starts
        held = remap_nodes(memory, numbers, NodeNumbering.of(stream))
    return RunState(
        data=data,
        segments=segments,
        weights=weights,
        memory=held,
        memory_end=end,
        checkpoint=best.name,
        digest=best.digest,
        trained=trained,
        tuned=tuned,
    )
