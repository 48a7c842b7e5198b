"""Layout of a stored stream: meta.json and one flat .npy file per column.

Every .npy file starts with a header of fixed size whose bytes follow from the
dtype and the shape. A reader therefore compares bytes instead of parsing an
untrusted header, and a writer can fill in the header last.

meta.json holds the size and SHA-256 of each file, and a SHA-256 of itself.
"""

from __future__ import annotations

import atexit
import errno
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from pres_dist.config.base import Config
from pres_dist.errors import DataError
from pres_dist.files import UNSEALED, read_regular, seal_of, sealed, sha256, user_path
from pres_dist.staging import Staged, restore
from pres_dist.wording import setting

META_FILE = "meta.json"
NODE_IDS_FILE = "node_ids.arrow"
ADJACENCY, PAIRS = ".adjacency-", ".pairs-"
"""Name prefixes of the derived files that are cached in a stream's directory."""
HEADER_BYTES = 128
MAX_COUNT = 2**63 - 1
INT: np.dtype = np.dtype("<i8")
FLOAT: np.dtype = np.dtype("<f4")
_SHOWN = 5
SHA256 = r"^[0-9a-f]{64}$"


class StoredFile(Config):
    """Entry of meta.json for one file of the stream."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)


class StreamMeta(Config):
    """Content of meta.json."""

    format: Literal["pres_dist.events"] = "pres_dist.events"
    version: Literal[1] = 1
    sha256: str | None = Field(None, pattern=SHA256)
    """SHA-256 of meta.json with zeros in this place; None in streams of older versions."""
    name: str
    num_events: int = Field(ge=1, le=MAX_COUNT)
    num_nodes: int = Field(ge=1, le=MAX_COUNT)
    edge_dim: int = Field(ge=0, le=2**31)
    node_dim: int = Field(ge=0, le=2**31)
    num_sources: int | None = Field(None, ge=1, le=MAX_COUNT)
    official_split: tuple[int, int] | None = None
    num_negatives: int = Field(0, ge=0, le=2**31)
    labelled: bool = False
    mapped_ids: bool = False
    metadata: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, StoredFile] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sources_are_nodes(self) -> StreamMeta:
        if self.num_sources is not None and self.num_sources > self.num_nodes:
            raise ValueError("num_sources must not exceed num_nodes")
        return self

    @model_validator(mode="after")
    def _negatives_have_events(self) -> StreamMeta:
        split = self.official_split
        if split is not None and not 0 < split[0] <= split[1] < self.num_events:
            raise ValueError("official_split must leave events for training and testing")
        if self.num_negatives and split is None:
            raise ValueError("num_negatives needs official_split")
        return self

    def arrays(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Return the dtype and shape of each .npy file of the stream, by column."""
        events = self.num_events
        columns: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        columns.update(dict.fromkeys(("src", "dst", "t"), (INT, (events,))))
        if self.edge_dim:
            columns["edge_features"] = (FLOAT, (events, self.edge_dim))
        if self.node_dim:
            columns["node_features"] = (FLOAT, (self.num_nodes, self.node_dim))
        if self.labelled:
            columns["labels"] = (INT, (events,))
        if self.num_negatives and self.official_split is not None:
            columns["negatives"] = (INT, (events - self.official_split[0], self.num_negatives))
        return columns

    def file_names(self) -> list[str]:
        """Return the names of all files of the stream except meta.json."""
        names = [f"{column}.npy" for column in self.arrays()]
        return [*names, NODE_IDS_FILE] if self.mapped_ids else names


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the first ``HEADER_BYTES`` bytes of a version 1.0 .npy file."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    body = text.encode().ljust(HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


def meta_json(meta: StreamMeta) -> str:
    """Return the content of meta.json, including a hash of itself."""
    return sealed(meta.model_copy(update={"sha256": UNSEALED}).model_dump_json(indent=1) + "\n")


def read_meta(directory: Path) -> StreamMeta:
    """Read and check meta.json; raise ``DataError`` if it is missing or damaged."""
    file = directory / META_FILE
    try:
        content = read_regular(file)
        meta = StreamMeta.model_validate_json(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{directory}: not a stored event stream: {META_FILE}: {reason}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        shown = repr(first.get("input"))[:60]
        raise DataError(f"{file}: {where}: {first['msg']}, got {shown}") from None
    if meta.sha256 is not None:
        _check_digest(file, meta.sha256, seal_of(content, meta.sha256))
    return meta


def check_files(directory: Path, meta: StreamMeta) -> None:
    """Compare the files with meta.json by name and size, without reading them.

    Hidden files are ignored: file systems and file managers create some.
    """
    expected = meta.file_names()
    if sorted(expected) != sorted(meta.files):
        raise DataError(
            f"{directory / META_FILE}: files must be {sorted(expected)}, got {sorted(meta.files)}"
        )
    for name, stored in meta.files.items():
        try:
            found = (directory / name).stat()
        except OSError as error:
            raise DataError(f"{directory / name}: {error.strerror or error}") from None
        if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait forever
            raise DataError(f"{directory / name}: must be a regular file")
        if found.st_size != stored.bytes:
            raise DataError(
                f"{directory / name}: must have {stored.bytes} bytes, got {found.st_size}"
            )
    there = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    if others := sorted(there - {META_FILE, *expected}):
        raise DataError(f"{directory}: must hold the files of the stream alone, got {others}")


def check_content(directory: Path, meta: StreamMeta) -> None:
    """Read every file and compare its hash with meta.json."""
    for name, stored in meta.files.items():
        try:
            found = sha256(directory / name)
        except OSError as error:
            raise DataError(f"{directory / name}: {error.strerror or error}") from None
        _check_digest(directory / name, stored.sha256, found)


def _check_digest(file: Path, expected: str, found: str) -> None:
    if found != expected:
        raise DataError(
            f"{file}: damaged: sha256 must be {expected} as in {META_FILE}, got {found}"
        )


def open_array(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Memory-map one column, read-only; raise ``DataError`` unless header and size fit."""
    expected = npy_header(dtype, shape)
    try:
        with file.open("rb") as opened:
            header = opened.read(HEADER_BYTES)
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from None
    wanted = HEADER_BYTES + dtype.itemsize * int(np.prod(shape, dtype=object))
    if header != expected or size != wanted:
        raise DataError(f"{file}: must hold {dtype.str} of shape {shape} in {wanted} bytes")
    array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return array


class StreamExistsError(DataError):
    """Error for an output directory that already exists."""


def stored_at(path: str | Path) -> Path:
    """Return the path of a stored stream, and restore a stream that a killed import moved away."""
    place = user_path(path)
    with suppress(OSError):
        restore(place.absolute())
    return place


def check_outside_streams(path: Path) -> None:
    """Raise DataError if a new folder would be in a stream, which then could not be opened."""
    # Also in a damaged stream, whose meta.json cannot be read as a whole.
    mark = f'"{StreamMeta.model_fields["format"].default}"'.encode()
    with suppress(OSError):
        if mark in read_regular(path.absolute().parent / META_FILE):
            raise DataError(
                f"{path}: must not be in the directory of a stream, which holds its own files alone"
            )


class PartialDirectory:
    """Hidden directory next to ``target`` that is renamed to it once complete."""

    def __init__(self, target: Path, force: bool) -> None:
        self._target, self._force = target, force

    @property
    def path(self) -> Path:
        """Place to write to, once `create` has returned."""
        return self._staged.path

    def create(self) -> None:
        """Create the directory; raise ``DataError`` if the target exists or is not writable."""
        try:
            restore(self._target)
            self._refuse_existing()
            check_outside_streams(self._target)
            self._staged = Staged(self._target, folder=True)
            self._target.parent.mkdir(parents=True, exist_ok=True)
            # A signal may end the process before the caller can call `remove`.
            atexit.register(self.remove)
            self._staged.create()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{self._target}: cannot write here: {reason}") from None

    def publish(self) -> None:
        """Rename the directory to its target; its files must already be on disk."""
        self._refuse_existing()
        try:
            self._staged.publish(replace=self._force)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                self._refuse_existing()
            raise
        atexit.unregister(self.remove)

    def remove(self) -> None:
        """Remove the hidden directory, if it exists; after ``publish`` it does not."""
        atexit.unregister(self.remove)
        self._staged.discard()

    def _refuse_existing(self) -> None:
        if not os.path.lexists(self._target):
            return
        if not self._force:
            raise StreamExistsError(
                f"{self._target}: already exists; use {setting('force')} to replace it"
            )
        try:
            meta = read_meta(self._target)
        except DataError:
            raise StreamExistsError(
                f"{self._target}: already exists and is not a stored stream; {setting('force')} "
                "replaces only streams"
            ) from None
        # Derived files may go; those that are still being written have one more dot.
        own = {META_FILE, *meta.file_names()}
        made = (ADJACENCY, PAIRS, f".{ADJACENCY}", f".{PAIRS}")
        names = sorted(path.name for path in self._target.iterdir())
        if others := [name for name in names if name not in own and not name.startswith(made)]:
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            raise StreamExistsError(
                f"{self._target}: {setting('force')} replaces only what an import has written; "
                f"move elsewhere first: {', '.join(others[:_SHOWN])}{more}"
            )
