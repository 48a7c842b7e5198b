"""Which events and which memory a run stands at: those it was trained with, or extended by.

    RUN/extended/CURRENT             names the version that holds
    RUN/extended/version-00001/
        stream/                      all events: those of training, and those appended
        memory.pt                    the memory after them
        manifest.json                where the parts end, and a hash of the memory

Versions are written to one side, synced and renamed; CURRENT is replaced last. The run's
own stream and checkpoints stay as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError
from pres_dist.events.stream import EventStream
from pres_dist.files import replacing, sha256, sync_folder, write_atomically
from pres_dist.training.checkpoint import BEST, Checkpoint, Checkpoints
from pres_dist.training.checkpoint_folder import read_tensors
from pres_dist.training.identity import check_same_events
from pres_dist.training.setup import Data, data_of, load_data, split_of
from pres_dist.use.relaying import NodeNumbers, relaid

EXTENDED, CURRENT = "extended", "CURRENT"
STREAM, MEMORY, MANIFEST = "stream", "memory.pt", "manifest.json"


@dataclass(frozen=True)
class RunState:
    """What using a run begins with.

    Attributes:
        data: its stream, and the split that it was trained with.
        segments: ends of what memory is swept over in one go after the training part.
        weights: of the best epoch.
        memory: state of a `LocalStore` of all nodes.
        memory_end: first event that it has not seen.
        checkpoint: name of the one that weights are from.
        trained: the nodes that the checkpoint knows.
    """

    data: Data
    segments: Sequence[int]
    weights: Mapping[str, Any]
    memory: dict[str, Any]
    memory_end: int
    checkpoint: str
    trained: NodeNumbers


def open_state(
    run_dir: Path, config: RunConfig, device: torch.device, until: int | None = None
) -> RunState:
    """The state of a run, with the newest memory there is.

    Args:
        run_dir: folder of the run.
        config: its configuration.
        device: of the columns of the stream.
        until: only memory that has seen no event from this one on.

    Raises:
        CheckpointError: no usable checkpoint, one of other events, or a damaged extension.
        DataError: the stream cannot be used.
    """
    best = Checkpoints(run_dir).open(BEST)
    folder = current_version(run_dir)
    if folder is not None:
        return _extended(folder, config, device, best, until)
    data = load_data(config, device)
    check_same_events(data.stream, best.state)
    return RunState(
        data,
        [data.split.validation_end, data.split.num_events],
        best.state["model"],
        best.memory.last(),
        data.split.train_end,
        best.name,
        NodeNumbers.of(data.stream),
    )


def extended_data(
    stream: EventStream, num_trained: int, config: RunConfig, device: torch.device
) -> Data:
    """A stream with the split of its first events, which the run was trained with."""
    return data_of(stream, split_of(config.data, stream.head(num_trained)), config, device)


def current_version(run_dir: Path) -> Path | None:
    """Folder of the version that holds; None where the run was never extended."""
    try:
        return run_dir / EXTENDED / (run_dir / EXTENDED / CURRENT).read_text().strip()
    except FileNotFoundError:
        return None


def new_version(run_dir: Path) -> Path:
    """An empty folder for the next version, out of sight until `publish`."""
    current = current_version(run_dir)
    number = 1 if current is None else int(current.name.rsplit("-", 1)[1]) + 1
    folder = run_dir / EXTENDED / f"version-{number:05d}.tmp"
    shutil.rmtree(folder, ignore_errors=True)  # what a killed one left
    folder.mkdir(parents=True)
    return folder


def publish(folder: Path, state: RunState) -> Path:
    """Write memory and manifest into a new version, and let it be the one that holds."""
    with replacing(folder / MEMORY) as file:
        torch.save(state.memory, file)
    manifest = {
        "version": 1,
        "checkpoint": state.checkpoint,
        "trained": vars(state.trained),
        "segments": list(state.segments),
        "sha256": sha256(folder / MEMORY),
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    final = folder.with_suffix("")
    shutil.rmtree(final, ignore_errors=True)  # of a run that ended before CURRENT could name it
    folder.rename(final)
    sync_folder(final.parent)
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
        manifest = json.loads((folder / MANIFEST).read_text())
        trained = NodeNumbers(**manifest["trained"])
        segments = [int(end) for end in manifest["segments"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: not a complete extension: {error}") from None
    stream = EventStream.verify(folder / STREAM)
    data = extended_data(stream, trained.num_events, config, device)
    state = RunState(
        data,
        segments,
        best.state["model"],
        {},
        data.split.train_end,
        best.name,
        trained,
    )
    # A run that was trained on since has other weights: its memory is swept anew.
    if manifest["checkpoint"] == best.name and (until is None or until >= stream.num_events):
        return replace(state, memory=_load(folder, manifest), memory_end=stream.num_events)
    return replace(state, memory=relaid(best.memory.last(), trained, NodeNumbers.of(stream)))


def _load(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    file = folder / MEMORY
    if not file.is_file() or sha256(file) != manifest["sha256"]:
        raise CheckpointError(f"{file}: damaged: its sha256 must be {manifest['sha256']}")
    return read_tensors(file)  # a hash is no signature: whoever can write here can make both
