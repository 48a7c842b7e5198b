"""Node memory as a checkpoint keeps it: shards that workers write side by side.

Files are those of torch's distributed checkpoint, one a worker, with its `.metadata`. Each
tensor is named REPLICA/SHARD/PART/TABLE, and a shard says which nodes its rows are of, so
that any other number of workers, shards or another placement finds its rows again.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

from pres_dist.errors import CheckpointError

Tables = dict[str, dict[str, Tensor]]
"""The state of a `LocalStore`: tables by name, of the parts `rows` and `statistics`."""

METADATA = ".metadata"
_NODES = "nodes"
_PARTS = ("rows", "statistics")

_ALLOWED = {
    "torch": None,  # None: a dtype, a layout or Size, which `_Unpickler` checks
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "pathlib": {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
}
"""What a `.metadata` is made of. It is a pickle, and could run any other name."""

# It says that one process writes alone, which is meant.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or unini")


@dataclass(frozen=True)
class Shard:
    """Rows of some nodes.

    Attributes:
        nodes_S: [S] int64 ids, distinct.
        tables: of S rows each; statistics may be missing.
    """

    nodes_S: Tensor
    tables: Tables

    def named(self, replica: int, number: int) -> dict[str, Tensor]:
        """Copies of its tensors in host memory, by the names that they are saved under."""
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
    """Write named tensors of all workers of a group; each calls this with its own.

    Files are on disk when it returns, on all workers.

    Args:
        folder: which all of them see.
        tensors: in host memory, under names that no other worker uses.
        group: of gloo; None for a worker that writes alone.

    Raises:
        CheckpointError: on all workers, when one cannot write.
    """
    writer = dcp.FileSystemWriter(folder, sync_files=True)
    try:
        dcp.save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)
    except CheckpointException as error:  # no Exception: nothing else would catch it
        raise CheckpointError(f"{folder}: cannot be written: {_reasons(error)}") from None


@dataclass(frozen=True)
class SavedMemory:
    """The memory in the folder of a checkpoint.

    Attributes:
        folder: of the files.
        shapes: size and type of each tensor, by name.
    """

    folder: Path
    shapes: Mapping[str, tuple[torch.Size, torch.dtype]]

    @classmethod
    def open(cls, folder: Path) -> SavedMemory:
        """CheckpointError for a folder that is damaged, or whose pickle holds anything else."""
        found = _Reader(folder).read_metadata().state_dict_metadata
        shapes = {}
        for name, each in found.items():
            if not isinstance(each, TensorStorageMetadata):  # bytes would be unpickled
                raise CheckpointError(f"{folder}: must hold tensors alone, got {name}")
            shapes[name] = each.size, each.properties.dtype
        return cls(folder, shapes)

    @property
    def num_replicas(self) -> int:
        """Memories in it, each of all nodes; 0 where the model has none."""
        return len({name.split("/")[0] for name in self.shapes})

    def numbers(self, replica: int) -> list[int]:
        """Of the shards of one of them: the ranks of the workers that saved rows."""
        names = [name.split("/") for name in self.shapes]
        return sorted({int(number) for first, number, *_ in names if first == str(replica)})

    def shard(self, replica: int, number: int) -> Shard:
        """One shard, in host memory.

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
            dcp.load(dict(tensors), storage_reader=_Reader(self.folder), no_dist=True)
        except CheckpointException as error:
            raise CheckpointError(f"{self.folder}: cannot be read: {_reasons(error)}") from None
        tables: Tables = {part: {} for part in _PARTS}
        for name, tensor in tensors.items():
            part, _, table = name.removeprefix(prefix).partition("/")
            if part in tables:
                tables[part][table] = tensor
        return Shard(tensors[prefix + _NODES], tables)

    def shards(self, replica: int) -> Iterator[Shard]:
        """All shards of one memory, one at a time."""
        for number in self.numbers(replica):
            yield self.shard(replica, number)

    def whole(self, replica: int) -> Tables:
        """The state of a `LocalStore` of all nodes."""
        num_nodes = sum(
            self.shapes[f"{replica}/{number}/{_NODES}"][0][0] for number in self.numbers(replica)
        )
        return rows_of(torch.arange(num_nodes), self.shards(replica), num_nodes)

    def last(self) -> Tables:
        """That at the end of the training part, which is the last replica's."""
        return self.whole(self.num_replicas - 1)


def put_together(shards: Sequence[Shard]) -> Tables:
    """The state of a `LocalStore` of all nodes out of all its shards."""
    num_nodes = sum(len(shard.nodes_S) for shard in shards)
    return rows_of(torch.arange(num_nodes), shards, num_nodes)


def rows_of(nodes_S: Tensor, shards: Iterable[Shard], num_nodes: int) -> Tables:
    """The rows of some nodes, out of the shards of all, of which one at a time is held.

    Raises:
        CheckpointError: they are of other nodes.
    """
    row_N = torch.full((num_nodes,), -1)
    row_N[nodes_S] = torch.arange(len(nodes_S))
    rows: Tables = {part: {} for part in _PARTS}
    num_found = 0
    for shard in shards:
        if not len(shard.nodes_S):
            continue
        if int(shard.nodes_S.max()) >= num_nodes:
            raise CheckpointError(
                f"the checkpoint must be of {num_nodes} nodes, got node {int(shard.nodes_S.max())}"
            )
        row_X = row_N[shard.nodes_S]
        own_X = row_X >= 0
        num_found += int(own_X.sum())
        for part, tables in shard.tables.items():
            for name, table in tables.items():
                if name not in rows[part]:
                    rows[part][name] = table.new_empty(len(nodes_S), *table.shape[1:])
                rows[part][name][row_X[own_X]] = table[own_X]
    if num_found != len(nodes_S):
        raise CheckpointError(f"the checkpoint must hold {len(nodes_S)} nodes, got {num_found}")
    return rows


def _reasons(error: CheckpointException) -> str:
    """What went wrong at each worker, in a line."""
    causes = {
        f"{type(cause).__name__}: {cause}".strip().splitlines()[0]
        for cause, _ in error.failures.values()
    }
    return "; ".join(sorted(causes))


class _Reader(dcp.FileSystemReader):
    """Reads the metadata without running whatever else its pickle may hold."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        file = Path(self.path) / METADATA
        try:
            with file.open("rb") as opened:
                metadata = _Unpickler(opened).load()
        except Exception as error:  # a damaged pickle raises many kinds
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{file}: cannot be read: {reason}") from None
        if not isinstance(metadata, Metadata):
            raise CheckpointError(f"{file}: must be the metadata of a checkpoint")
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _ALLOWED:
            allowed = _ALLOWED[module]
            found = super().find_class(module, name) if allowed is None or name in allowed else None
            if allowed is None and not _is_plain(found):
                found = None
            if found is not None:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a checkpoint")


def _is_plain(found: Any) -> bool:
    return found is torch.Size or isinstance(found, torch.dtype | torch.layout)
