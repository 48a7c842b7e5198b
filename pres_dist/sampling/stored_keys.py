"""Cached sorted indexes: computed once for a stream, and memory-mapped afterwards.

The cache is a hidden .npy file in the folder of the stream, or in the cache folder if that is
not writable. Its name contains a digest of the events, so that a file of other events is never
used. Its SHA-256 is stored next to it and checked before use, as for a stream's files. A file
that fails the check is replaced. Several processes may write it at once, since all write the
same bytes.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from pres_dist.config.sampling import AdjacencyHome
from pres_dist.errors import DataError
from pres_dist.events.storage import HEADER_BYTES, INT, open_array
from pres_dist.files import cache_directory, replacing, sha256, write_atomically
from pres_dist.sampling.sorted_keys import MEMORY_BYTES, SortedIndex

DISK_EVENTS = 10_000_000
"""Smallest number of events to cache on disk; sorting fewer takes only a few seconds."""


def on_disk(home: AdjacencyHome, num_events: int) -> bool:
    """Return True if the index of `num_events` events is stored on disk."""
    return home == "disk" or (home == "auto" and num_events >= DISK_EVENTS)


def keys_of(index: SortedIndex, home: AdjacencyHome) -> np.ndarray:
    """Return the columns of an index, in memory or as a read-only memory map.

    Raises:
        DataError: `home` is disk, and no file can be written.
    """
    stream = index.stream
    if not on_disk(home, stream.num_events):
        return index.sorted()
    folders = [] if stream.path is None else [stream.path]
    with suppress(RuntimeError):  # a user without a home
        folders.append(cache_directory() / "adjacency")
    try:
        return stored_keys(index, folders)
    except DataError:
        if home == "disk":
            raise
        return index.sorted()


def stored_keys(
    index: SortedIndex, folders: list[Path], memory_bytes: int = MEMORY_BYTES
) -> np.ndarray:
    """Load the columns from the first folder that has them, or write them to a writable one.

    Folders are created if missing, except the stream's. Raises ``DataError`` if none is writable.
    """
    name = f"{index.prefix}{index.digest()}.npy"
    files = [folder / name for folder in folders]
    for file in files:
        if (keys := _intact(file)) is not None:
            return keys
    problems = []
    for file in files:
        try:
            if file.parent != index.stream.path:  # do not recreate the folder of a deleted stream
                file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                index.write(temporary, memory_bytes)
                digest = sha256(temporary)
            write_atomically(_digest_file(file), f"{digest}  {file.name}\n")
            # Read it back: a full or faulty disk may not report what it lost.
            if (keys := _intact(file)) is not None:
                return keys
            problems.append(f"{file}: is not what was written")
        except OSError as error:
            problems.append(f"{file.parent}: {error.strerror or error}")
    raise DataError(
        f"{index.stream.name}: the {index.what} needs a folder that can be written with room for "
        f"{2 * index.stream.num_events * INT.itemsize:,} bytes (sampling.adjacency: memory needs "
        f"none; PRES_DIST_CACHE names another), got {'; '.join(problems) or 'none'}"
    )


def _intact(file: Path) -> np.ndarray | None:
    """Return the columns of a file after verifying its digest; None if it is unusable."""
    try:
        recorded = _digest_file(file).read_text(encoding="ascii").split()
        num = (file.stat().st_size - HEADER_BYTES) // INT.itemsize
        if recorded[:1] != [sha256(file)]:
            return None
        return open_array(file, INT, (num,))
    except (OSError, ValueError, DataError):
        return None


def _digest_file(file: Path) -> Path:
    """Return the path of the digest file, in the format of `sha256sum`."""
    return file.with_suffix(".sha256")
