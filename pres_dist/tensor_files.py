"""Safe loading of untrusted tensor files: no code runs, and memory is bounded.

torch stores the members of its zip archives uncompressed. A compressed member could be a thousand
times as large as its file, and a tensor may claim more numbers than its member has.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from pres_dist.files import open_regular


def load_tensors(file: Path) -> Any:
    """Return the content of a file that `torch.save` wrote: tensors and plain values.

    Raises:
        Exception: of many kinds, if the file is damaged or holds anything else.
    """
    with open_regular(file) as opened:
        num_bytes = os.fstat(opened.fileno()).st_size
        check_members(opened, num_bytes)
        opened.seek(0)
        content = torch.load(opened, map_location="cpu", weights_only=True)
    for tensor in _tensors(content):
        if not tensor.is_meta and tensor.layout is torch.strided:
            claimed = tensor.untyped_storage().nbytes()
            if claimed > num_bytes:
                raise ValueError(
                    f"a tensor must have {num_bytes:,} bytes at most, as the file has, "
                    f"got {claimed:,}"
                )
    return content


def check_members(file: BinaryIO | Part, num_bytes: int) -> None:
    """Raise ValueError unless a file is a zip archive of uncompressed members."""
    try:
        members = zipfile.ZipFile(cast(BinaryIO, file)).infolist()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise ValueError(f"not a file that torch.save wrote: {error}") from None
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its member {member.filename!r} must not be compressed")
    total = sum(member.file_size for member in members)
    if total > num_bytes:
        raise ValueError(f"its members must have {num_bytes:,} bytes at most, got {total:,}")


class Part(io.RawIOBase):
    """Read-only view of a byte range of a file."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the range, and return the new position."""
        self._at = max(offset + (0, self._at, self._length)[whence], 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return the number of bytes read."""
        self._file.seek(self._start + self._at)
        wanted = min(len(buffer), max(self._length - self._at, 0))
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, list | tuple | set):
        for value in content:
            yield from _tensors(value)
