"""Weights of a run that were trained further on appended events; they replace its checkpoint.

    RUN/extended/version-00001/
        weights.pt                   weights and optimizer after that training
        trained_memory.pt            memory at the end of that training

Both files are stored next to the other files of an extension, and are carried over from version
to version. The run's own checkpoints do not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.errors import CheckpointError
from pres_dist.events.split import unseen_nodes
from pres_dist.files import replacing, sha256
from pres_dist.inference.node_numbering import NodeNumbering
from pres_dist.memory.state import Tables
from pres_dist.training.checkpoint_folder import read_tensors
from pres_dist.training.setup import Data
from pres_dist.training.state import TunedState, checked

WEIGHTS, TRAINED_MEMORY = "weights.pt", "trained_memory.pt"


class TunedEntry(Config):
    """Entry in the manifest of a version for weights that were trained further."""

    train_end: int = Field(ge=1)
    end: int = Field(ge=1)
    trained: NodeNumbering
    sha256: dict[str, str]


@dataclass(frozen=True)
class Tuned:
    """Weights that were trained further on appended events, with optimizer and memory.

    Attributes:
        train_end: first event that the weights were not trained on.
        end: number of events of the stream when they were trained.
        trained: node numbering of `memory`.
        state: weights, optimizer, and the optimizer steps of the run so far.
        memory: state of a `LocalStore`, before event `train_end`.
        digest: SHA-256 of the weights' file; empty before it is written.
    """

    train_end: int
    end: int
    trained: NodeNumbering
    state: TunedState
    memory: Tables
    digest: str = ""

    def over(self, data: Data) -> Data:
        """Return the data with a training split that ends where the training of the weights did.

        The time unit and the scaling of features remain those that the weights were trained with.
        """
        first = data.split
        split = replace(
            first, train_end=self.train_end, validation_end=self.end, num_events=self.end
        )
        unseen = unseen_nodes(data.stream, split)
        unit_end = data.unit_end or first.train_end
        return replace(data, split=split, kept=split.train, unseen_N=unseen, unit_end=unit_end)

    def write(self, folder: Path) -> TunedEntry:
        """Write both files, and return their entry for the manifest."""
        for name, content in ((WEIGHTS, self.state.model_dump()), (TRAINED_MEMORY, self.memory)):
            write_tensors(folder / name, content)
        return TunedEntry(
            train_end=self.train_end,
            end=self.end,
            trained=self.trained,
            sha256={name: sha256(folder / name) for name in (WEIGHTS, TRAINED_MEMORY)},
        )

    @classmethod
    def read(cls, folder: Path, entry: TunedEntry) -> Tuned:
        """Read the files written by `write`; raise CheckpointError if they are damaged."""
        weights = read_checked(folder / WEIGHTS, entry.sha256.get(WEIGHTS, ""))
        numbers, digest = entry.trained, entry.sha256[WEIGHTS]
        file = folder / TRAINED_MEMORY
        memory = read_memory(file, entry.sha256.get(TRAINED_MEMORY, ""), numbers.num_nodes)
        state = checked(TunedState, weights, folder / WEIGHTS)
        return cls(entry.train_end, entry.end, numbers, state, memory, digest)


def write_tensors(file: Path, content: Mapping[str, Any]) -> None:
    """Save tensors and plain values to a file, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(file) as staged, staged.open("wb") as opened:
        try:
            torch.save(dict(content), opened)
        except RuntimeError as error:
            # On a full disk torch raises its own error while it closes the archive.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checked(file: Path, digest: str) -> dict[str, Any]:
    """Read a file of `write_tensors`; raise CheckpointError unless it has the SHA-256."""
    try:
        found = sha256(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    if found != digest:
        raise CheckpointError(f"{file}: damaged: its sha256 must be {digest}, got {found}")
    # A hash is not a signature: anyone who can write the file can also write its hash, so the
    # content is still read as untrusted.
    return read_tensors(file)


def read_memory(file: Path, digest: str, num_nodes: int) -> Tables:
    """Return the state of a `LocalStore` of `num_nodes` nodes; else raise CheckpointError."""
    state: Tables = read_checked(file, digest)
    for part, tables in state.items():
        for name, table in tables.items() if isinstance(tables, dict) else [("", None)]:
            rows = table.shape[:1] if isinstance(table, torch.Tensor) else ()
            if tuple(rows) not in ((0,), (num_nodes,)):  # 0: statistics that are not kept
                raise CheckpointError(f"{file}: {part}.{name} must be a table of {num_nodes} nodes")
    return state
