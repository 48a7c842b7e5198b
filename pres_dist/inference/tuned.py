"""What stands in for a run's checkpoint once weights were trained on, over appended events.

    RUN/extended/version-00001/
        weights.pt                   weights and optimizer after that training
        trained_memory.pt            the memory that it left

Both are kept beside what an extension has anyway, and go on from version to version. The
run's own checkpoints stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from pres_dist.config.base import Config
from pres_dist.errors import CheckpointError
from pres_dist.events.split import unseen_nodes
from pres_dist.files import replacing, sha256
from pres_dist.inference.relaying import NodeNumbers
from pres_dist.training.checkpoint_folder import read_tensors
from pres_dist.training.setup import Data
from pres_dist.training.state import TunedState, checked_tuned

WEIGHTS, TRAINED_MEMORY = "weights.pt", "trained_memory.pt"


Numbers = dict[Literal["num_events", "num_nodes", "shifted"], Annotated[int, Field(ge=0)]]
"""The fields of `NodeNumbers`."""


class TunedEntry(Config):
    """What the manifest of a version says of weights that were trained on."""

    train_end: int = Field(ge=1)
    end: int = Field(ge=1)
    trained: Numbers
    sha256: dict[str, str]


@dataclass(frozen=True)
class Tuned:
    """Weights that were trained on, and what they know.

    Attributes:
        train_end: first event that they were not trained on.
        end: events of the stream when they were.
        trained: the nodes that memory is laid out for.
        state: weights, optimizer, and the optimizer steps of the run so far.
        memory: state of a `LocalStore`, before event `train_end`.
        digest: of the weights' file; empty before it is written.
    """

    train_end: int
    end: int
    trained: NodeNumbers
    state: TunedState
    memory: Mapping[str, Any]
    digest: str = ""

    def over(self, data: Data) -> Data:
        """A longer stream, whose training split now ends where that of the weights does.

        The time unit and the scaling of features stay those that the weights know.
        """
        first = data.split
        split = replace(
            first, train_end=self.train_end, validation_end=self.end, num_events=self.end
        )
        unseen = unseen_nodes(data.stream, split)
        unit_end = data.unit_end or first.train_end
        return replace(data, split=split, kept=split.train, unseen_N=unseen, unit_end=unit_end)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write both files; returns what a manifest must say of them."""
        for name, content in ((WEIGHTS, self.state.model_dump()), (TRAINED_MEMORY, self.memory)):
            write_tensors(folder / name, content)
        return {
            "train_end": self.train_end,
            "end": self.end,
            "trained": vars(self.trained),
            "sha256": {name: sha256(folder / name) for name in (WEIGHTS, TRAINED_MEMORY)},
        }

    @classmethod
    def read(cls, folder: Path, entry: TunedEntry) -> Tuned:
        """What `write` wrote; CheckpointError where it is damaged."""
        weights = read_checked(folder / WEIGHTS, entry.sha256.get(WEIGHTS, ""))
        numbers, digest = NodeNumbers(**entry.trained), entry.sha256[WEIGHTS]
        file = folder / TRAINED_MEMORY
        memory = read_memory(file, entry.sha256.get(TRAINED_MEMORY, ""), numbers.num_nodes)
        state = checked_tuned(weights, folder / WEIGHTS)
        return cls(entry.train_end, entry.end, numbers, state, memory, digest)


def write_tensors(file: Path, content: Mapping[str, Any]) -> None:
    """Save tensors and plain values, on disk."""
    with replacing(file) as opened:
        torch.save(dict(content), opened)


def read_checked(file: Path, digest: str) -> dict[str, Any]:
    """What `write_tensors` wrote; CheckpointError unless it has the hash."""
    try:
        found = sha256(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    if found != digest:
        raise CheckpointError(f"{file}: damaged: its sha256 must be {digest}, got {found}")
    return read_tensors(file)  # a hash is no signature: whoever can write here can make both


def read_memory(file: Path, digest: str, num_nodes: int) -> dict[str, Any]:
    """Return the state of a `LocalStore` of so many nodes; CheckpointError for anything else."""
    state = read_checked(file, digest)
    for part, tables in state.items():
        for name, table in tables.items() if isinstance(tables, dict) else [("", None)]:
            rows = table.shape[:1] if isinstance(table, torch.Tensor) else ()
            if tuple(rows) not in ((0,), (num_nodes,)):  # 0: statistics that are not kept
                raise CheckpointError(f"{file}: {part}.{name} must be a table of {num_nodes} nodes")
    return state
