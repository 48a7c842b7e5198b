"""Sorted keys that are kept: made once for a stream, and memory-mapped from then on.

They are a hidden .npy file in the folder of the stream, or in the cache where that cannot be
written. Its name is a digest of the events, so that a file of others is never taken for it; beside
it lies its SHA-256, which is checked before use as those of a stream's files are. A file that
fails is made anew. Several processes may make one at a time: all write the same bytes.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from pres_dist.config.sampling import AdjacencyHome
from pres_dist.errors import DataError
from pres_dist.events.storage import HEADER_BYTES, INT, open_array
from pres_dist.events.stream import EventStream
from pres_dist.files import cache_directory, replacing, sha256, write_atomically
from pres_dist.sampling.sorted_keys import MEMORY_BYTES

DISK_EVENTS = 10_000_000
"""Sorting fewer takes a few seconds at most, and is worth no file."""


class SortedKeys(Protocol):
    """An index of a stream that can be kept in a file.

    Attributes:
        what: its name.
        prefix: how the name of its file begins.
        stream: the events.
    """

    what: str
    prefix: str
    stream: EventStream

    def digest(self) -> str:
        """Return a digest of all that decides the keys."""

    def sorted(self) -> np.ndarray:
        """[n] int64 keys."""

    def write(self, file: Path, memory_bytes: int) -> None:
        """Write what `sorted` returns as a .npy file in bounded memory."""


def on_disk(home: AdjacencyHome, num_events: int) -> bool:
    """Whether the keys of so many events are kept on disk."""
    return home == "disk" or (home == "auto" and num_events >= DISK_EVENTS)


def keys_of(edges: SortedKeys, home: AdjacencyHome) -> np.ndarray:
    """[H] int64 sorted keys: in memory, or a read-only memory map.

    Raises:
        DataError: they are to be on disk, and no file can be written.
    """
    if not on_disk(home, edges.stream.num_events):
        return edges.sorted()
    try:
        return stored_keys(edges, _folders(edges.stream))
    except DataError:
        if home == "disk":
            raise
        return edges.sorted()


def stored_keys(
    edges: SortedKeys, folders: list[Path], memory_bytes: int = MEMORY_BYTES
) -> np.ndarray:
    """The keys from the first folder that holds them, made in the first that can be written.

    Args:
        edges: whose keys.
        folders: the best first; made where they are not there, but for that of the stream.
        memory_bytes: to hold of the keys at a time while they are made.

    Raises:
        DataError: there is none.
    """
    name = f"{edges.prefix}{edges.digest()}.npy"
    files = [folder / name for folder in folders]
    for file in files:
        if (keys := _intact(file)) is not None:
            return keys
    problems = []
    for file in files:
        try:
            _make(file, edges, memory_bytes)
            if (keys := _intact(file)) is not None:
                return keys
            problems.append(f"{file}: is not what was written")
        except OSError as error:
            problems.append(f"{file.parent}: {error.strerror or error}")
    raise DataError(
        f"{edges.stream.name}: the {edges.what} needs a folder that can be written with room for "
        f"{2 * edges.stream.num_events * INT.itemsize:,} bytes (sampling.adjacency: memory needs "
        f"none; PRES_DIST_CACHE names another), got {'; '.join(problems) or 'none'}"
    )


def _folders(stream: EventStream) -> list[Path]:
    """Where the keys of a stream may be."""
    folders = [] if stream.path is None else [stream.path]
    with suppress(RuntimeError):  # a user without a home
        folders.append(cache_directory() / "adjacency")
    return folders


def _intact(file: Path) -> np.ndarray | None:
    """The keys of a file, all of it checked; None where there is none that can be used."""
    try:
        recorded = _digest_file(file).read_text(encoding="ascii").split()
        num = (file.stat().st_size - HEADER_BYTES) // INT.itemsize
        if recorded[:1] != [sha256(file)]:
            return None
        return open_array(file, INT, (num,))
    except (OSError, ValueError, DataError):
        return None


def _make(file: Path, edges: SortedKeys, memory_bytes: int) -> None:
    if file.parent != edges.stream.path:  # that of a stream which has gone is not made again
        file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        edges.write(temporary, memory_bytes)
        digest = sha256(temporary)
    write_atomically(_digest_file(file), f"{digest}  {file.name}\n")


def _digest_file(file: Path) -> Path:
    """As `sha256sum` writes them."""
    return file.with_suffix(".sha256")
