"""Node memory in a checkpoint: shards that workers write in parallel.

The format is torch's distributed checkpoint: one file per worker, and `.metadata`. Each
tensor is named REPLICA/SHARD/PART/TABLE. A shard stores the node ids of its rows, so the
checkpoint loads with any number of workers or shards and any placement.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from pres_dist.errors import CheckpointError
from pres_dist.memory.saved_metadata import Reader, Shapes, shapes_of
from pres_dist.memory.state import Tables

_NODES = "nodes"
_PARTS = ("rows", "statistics")

# Silence DCP's single-process warning: it is intentional.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or unini")


@dataclass(frozen=True)
class Shard:
    """Rows of some nodes.

    Attributes:
        nodes_S: [S] int64 ids, distinct.
        tables: tables of S rows each; statistics may be missing.
    """

    nodes_S: Tensor
    tables: Tables

    def named(self, replica: int, number: int) -> dict[str, Tensor]:
        """Return copies of the tensors in host memory, by the names under which they are saved."""
        tensors = {_NODES: self.nodes_S}
        for part, tables in self.tables.items():
            tensors |= {f"{part}/{name}": table for name, table in tables.items()}
        return {
            f"{replica}/{number}/{name}": tensor.detach().to("cpu", copy=True)
            for name, tensor in tensors.items()
        }


def write_tensors(
    folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None
) -> None:
    """Write named tensors from all workers of a group; each worker passes its own.

    All workers' files are on disk when the function returns.

    Args:
        folder: folder that all workers can access.
        tensors: tensors in host memory; names must be unique across workers.
        group: gloo group; None for a single writer.

    Raises:
        CheckpointError: a worker cannot write; raised on all workers.
    """
    writer = dcp.FileSystemWriter(folder, sync_files=True)
    try:
        dcp.save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)
    except CheckpointException as error:  # not an Exception: no other handler would catch it
        raise CheckpointError(f"{folder}: cannot be written: {_reasons(error)}") from None


@dataclass(frozen=True)
class SavedMemory:
    """The memory in the folder of a checkpoint.

    Attributes:
        folder: folder of the files.
        shapes: size and type of each tensor, by name.
    """

    folder: Path
    shapes: Shapes

    @classmethod
    def open(cls, folder: Path) -> SavedMemory:
        """Open a folder; raise CheckpointError if it is damaged or its pickle is not allowed."""
        return cls(folder, shapes_of(Reader(folder).read_metadata()))

    @property
    def num_replicas(self) -> int:
        """Number of memories, each of all nodes; 0 for a model without memory."""
        return len({name.split("/")[0] for name in self.shapes})

    def numbers(self, replica: int) -> list[int]:
        """Return the shard numbers of a replica: the ranks of the workers that saved rows."""
        names = [name.split("/") for name in self.shapes]
        return sorted({int(number) for first, number, *_ in names if first == str(replica)})

    def shard(self, replica: int, number: int) -> Shard:
        """Read one shard into host memory.

        Raises:
            CheckpointError: its files cannot be read.
        """
        prefix = f"{replica}/{number}/"
        tensors = {
            name: torch.empty(size, dtype=dtype)
            for name, (size, dtype) in self.shapes.items()
            if name.startswith(prefix)
        }
        try:
            dcp.load(dict(tensors), storage_reader=Reader(self.folder), no_dist=True)
        except CheckpointException as error:
            raise CheckpointError(f"{self.folder}: cannot be read: {_reasons(error)}") from None
        tables: Tables = {part: {} for part in _PARTS}
        for name, tensor in tensors.items():
            part, _, table = name.removeprefix(prefix).partition("/")
            if part in tables:
                tables[part][table] = tensor
        return Shard(tensors[prefix + _NODES], tables)

    def shards(self, replica: int) -> Iterator[Shard]:
        """Yield the shards of one memory, reading one at a time."""
        for number in self.numbers(replica):
            yield self.shard(replica, number)

    def whole(self, replica: int) -> Tables:
        """Return the state of a `LocalStore` of all nodes."""
        num_nodes = sum(
            self.shapes[f"{replica}/{number}/{_NODES}"][0][0] for number in self.numbers(replica)
        )
        return rows_of(torch.arange(num_nodes), self.shards(replica), num_nodes)

    def last(self) -> Tables:
        """Return the memory at the end of the training split, which the last replica holds."""
        return self.whole(self.num_replicas - 1)


def rows_of(nodes_S: Tensor, shards: Iterable[Shard], num_nodes: int) -> Tables:
    """Collect the rows of some nodes from the shards of all nodes, one shard at a time.

    Raises:
        CheckpointError: the shards hold other nodes, or rows of different shapes.
    """
    row_N = torch.full((num_nodes,), -1)
    row_N[nodes_S] = torch.arange(len(nodes_S))
    rows: Tables = {part: {} for part in _PARTS}
    found_S = torch.zeros(len(nodes_S), dtype=torch.bool)
    for shard in shards:
        if not len(shard.nodes_S):
            continue
        low, high = int(shard.nodes_S.min()), int(shard.nodes_S.max())
        if low < 0 or high >= num_nodes:
            raise CheckpointError(
                f"the checkpoint must be of {num_nodes} nodes, got node {low if low < 0 else high}"
            )
        row_X = row_N[shard.nodes_S]
        own_X = row_X >= 0
        found_S[row_X[own_X]] = True
        for part, tables in shard.tables.items():
            for name, table in tables.items():
                if name not in rows[part]:
                    rows[part][name] = table.new_empty(len(nodes_S), *table.shape[1:])
                if rows[part][name].shape[1:] != table.shape[1:]:
                    raise CheckpointError(f"the checkpoint's {name} must have rows of one shape")
                rows[part][name][row_X[own_X]] = table[own_X]
    if not bool(found_S.all()):
        raise CheckpointError(
            f"the checkpoint must hold {len(nodes_S)} nodes, got {int(found_S.sum())}"
        )
    return rows


def _reasons(error: CheckpointException) -> str:
    """Return the errors of all workers on one line."""
    causes = {
        f"{type(cause).__name__}: {cause}".strip().splitlines()[0]
        for cause, _ in error.failures.values()
    }
    return "; ".join(sorted(causes))
