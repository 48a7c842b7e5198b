"""Which events and which memory a run stands at: those it was trained with, or extended by.

    RUN/extended/CURRENT             names the version that holds
    RUN/extended/version-00001/
        stream/                      all events: those of training, and those appended
        memory.pt                    the memory after them
        weights.pt, ...              where weights were trained on (`use/tuned.py`)
        manifest.json                where the parts end, and a hash of the memory

Versions are written to one side, synced and renamed; CURRENT is replaced last. The run's
own stream and checkpoints stay as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError
from pres_dist.events.stream import EventStream
from pres_dist.files import sha256, write_atomically
from pres_dist.staging import Staged
from pres_dist.training.checkpoint import BEST, Checkpoint, Checkpoints
from pres_dist.training.identity import check_same_events
from pres_dist.training.setup import Data, data_of, load_data, split_of
from pres_dist.use.relaying import NodeNumbers, relaid
from pres_dist.use.tuned import Tuned, read_checked, write_tensors

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
        tuned: what stands in for the checkpoint; None where weights are its own.
    """

    data: Data
    segments: Sequence[int]
    weights: Mapping[str, Any]
    memory: dict[str, Any]
    memory_end: int
    checkpoint: str
    trained: NodeNumbers
    tuned: Tuned | None = None

    @property
    def weights_name(self) -> str:
        """What tells these weights from any others of the run."""
        return self.checkpoint + (f"+{self.tuned.digest[:8]}" if self.tuned else "")

    def data_over(self, stream: EventStream, config: RunConfig, device: torch.device) -> Data:
        """A longer stream, split as this one is."""
        data = extended_data(stream, self.trained.num_events, config, device)
        return data if self.tuned is None else self.tuned.over(data)


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


def new_version(run_dir: Path) -> Staged:
    """An empty folder for the next version, out of sight until `publish`."""
    current = current_version(run_dir)
    number = 1 if current is None else int(current.name.rsplit("-", 1)[1]) + 1
    staged = Staged(run_dir / EXTENDED / f"version-{number:05d}", folder=True)
    staged.target.parent.mkdir(parents=True, exist_ok=True)
    staged.create()
    return staged


def publish(staged: Staged, state: RunState) -> Path:
    """Write memory and manifest into a new version, and let it be the one that holds."""
    folder, final = staged.path, staged.target
    write_tensors(folder / MEMORY, state.memory)
    manifest = {
        "version": 1,
        "checkpoint": state.checkpoint,
        "trained": vars(state.trained),
        "segments": list(state.segments),
        "sha256": sha256(folder / MEMORY),
        "tuned": None if state.tuned is None else state.tuned.write(folder),
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    staged.publish()  # replaces one of a run that ended before CURRENT could name it
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
    manifest = _read(folder)
    trained, segments = NodeNumbers(**manifest["trained"]), list(manifest["segments"])
    # A run that was trained on since has other weights: its memory is swept anew.
    holds = manifest["checkpoint"] == best.name
    tuned = Tuned.read(folder, manifest["tuned"]) if holds and manifest.get("tuned") else None
    stream = EventStream.verify(folder / STREAM)
    data = extended_data(stream, trained.num_events, config, device)
    if not holds:
        segments = sorted({data.split.validation_end, trained.num_events, *segments})
    weights, memory, numbers = best.state["model"], best.memory.last(), trained
    if tuned is not None:
        data, numbers = tuned.over(data), tuned.trained
        weights, memory = tuned.state["model"], dict(tuned.memory)
    end = data.split.train_end
    if holds and (until is None or until >= stream.num_events):
        held = read_checked(folder / MEMORY, manifest["sha256"])
        end = stream.num_events
    else:
        held = relaid(memory, numbers, NodeNumbers.of(stream))
    return RunState(data, segments, weights, held, end, best.name, trained, tuned)


def _read(folder: Path) -> dict[str, Any]:
    """The manifest of a version; CheckpointError where it is not one."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        NodeNumbers(**manifest["trained"])
        manifest["segments"] = [int(end) for end in manifest["segments"]]
        manifest["checkpoint"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: not a complete extension: {error}") from None
    return manifest
