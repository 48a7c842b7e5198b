"""Safe reading of the `.metadata` of saved memory, which may come from an untrusted source.

It is a pickle that locates each tensor. Only the dozen classes of the format are allowed in
it, and its contents must match the files of the folder: a tensor outside the folder, or one
larger than its file, raises an error before anything is read or allocated.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import (
    _MEM_FORMAT_ENCODING,
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
    TensorStorageMetadata,
)

from pres_dist.errors import CheckpointError, first_line
from pres_dist.files import open_regular
from pres_dist.tensor_files import Part, check_members

METADATA = ".metadata"
Shapes = Mapping[str, tuple[torch.Size, torch.dtype]]

_NAME = re.compile(r"\d{1,9}/\d{1,9}/(nodes|(rows|statistics)/\w+)")
_FILE = re.compile(r"__\d+_\d+\.distcp")
_DTYPES = {
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}
_ALLOWED = {
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
"""Names allowed in `.metadata`, besides dtypes, layouts and Size of torch. It is a pickle, and
any other name could run code."""


class Reader(dcp.FileSystemReader):
    """Reads the tensors of a folder after checking its metadata."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the checked metadata; raise CheckpointError if it is damaged or not allowed."""
        file = Path(self.path) / METADATA
        try:
            with open_regular(file) as opened:
                metadata = _Unpickler(opened).load()
            if not isinstance(metadata, Metadata):
                raise ValueError("must be the metadata of a checkpoint")
            _check(Path(self.path), metadata)
        except Exception as error:  # a damaged or hostile pickle raises many kinds
            raise CheckpointError(f"{file}: cannot be read: {first_line(error)}") from None
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


def shapes_of(metadata: Metadata) -> Shapes:
    """Return size and type of each tensor, by name."""
    return {
        name: (each.size, each.properties.dtype)
        for name, each in metadata.state_dict_metadata.items()
        if isinstance(each, TensorStorageMetadata)
    }


def _check(folder: Path, metadata: Metadata) -> None:
    """Raise an error, usually ValueError, unless each tensor lies whole in a file of the folder."""
    tensors, places = metadata.state_dict_metadata, metadata.storage_data
    if sorted(index.fqn for index in places) != sorted(tensors):
        raise ValueError("must name one place of each tensor")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    total = 0
    for index, place in places.items():
        name, file = index.fqn, place.relative_path
        if not isinstance(file, str) or not _FILE.fullmatch(file) or file not in sizes:
            raise ValueError(f"{name} must be in a file of its folder, got {file!r}")
        if place.transform_descriptors:
            raise ValueError(f"{name} must be stored as it is")
        offset, length = int(place.offset), int(place.length)
        if offset < 0 or length < 0 or offset + length > sizes[file]:
            raise ValueError(f"{name} must be within the {sizes[file]:,} bytes of {file}")
        _check_tensor(name, tensors[name], length)
        total += length
        with open_regular(folder / file) as opened:
            check_members(Part(opened, offset, length), length)
    if total > sum(sizes.values()):
        raise ValueError("tensors must not share their bytes")
    numbers = {tuple(name.split("/")[:2]) for name in tensors}
    if missing := [pair for pair in sorted(numbers) if f"{'/'.join(pair)}/nodes" not in tensors]:
        raise ValueError(f"{'/'.join(missing[0])} must say of which nodes its rows are")


def _check_tensor(name: str, each: Any, length: int) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"tensors must be named REPLICA/SHARD/PART/TABLE, got {name!r:.80}")
    if not isinstance(each, TensorStorageMetadata):  # bytes would be unpickled
        raise ValueError(f"must hold tensors alone, got {name}")
    size, dtype = each.size, each.properties.dtype
    if dtype not in _DTYPES or (name.endswith("/nodes") and (dtype, len(size)) != (torch.int64, 1)):
        raise ValueError(f"{name} must be a tensor of numbers, got {dtype} of shape {list(size)}")
    num_bytes = dtype.itemsize
    for number in size:
        num_bytes *= number
    if any(number < 0 for number in size) or num_bytes > length:
        raise ValueError(f"{name} must have its {length:,} bytes at most, got shape {list(size)}")
    if each.chunks != [ChunkStorageMetadata(torch.Size([0] * len(size)), size)]:
        raise ValueError(f"{name} must be stored in one piece")


def _memory_format(kind: Any, name: str) -> Any:
    """Stand in for getattr, with which early releases of Python 3.11 pickle an enum's member."""
    if kind is not _MEM_FORMAT_ENCODING:
        raise pickle.UnpicklingError("builtins.getattr is not allowed in a checkpoint")
    return _MEM_FORMAT_ENCODING[name]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _memory_format
        found = getattr(torch, name, None) if module == "torch" else None
        if found is torch.Size or isinstance(found, torch.dtype | torch.layout):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a checkpoint")
