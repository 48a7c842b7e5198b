"""A file that events are appended to, and that is on disk before anyone is told so.

A record a line: the CRC-32 of its text in eight hexadecimal digits, a space, and the text,
which is JSON. The first record says what the events continue. A record is written and
synced as a whole, and the next one only after it: so of a process or machine that stops, at
most the last record is incomplete, and that was never acknowledged.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pres_dist.errors import PresDistError
from pres_dist.files import sync_folder

Record = dict[str, Any]


class JournalError(PresDistError):
    """A journal that is damaged, continues other events, or cannot be written."""


class Journal:
    """The journal of one writer.

    Args:
        path: of the file; made, with its folder there already, where there is none.
        header: what the events continue; an older journal must say the same.

    Attributes:
        records: what an older journal held, in order.
        dropped: bytes of an incomplete last record, which were cut off.

    Raises:
        JournalError: an older journal is damaged or continues something else.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.records: list[Record] = []
        self.dropped = 0
        try:
            old = path.read_bytes() if path.exists() else b""
            self._file: BinaryIO = path.open("r+b" if old else "wb", buffering=0)
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened: {error.strerror}") from None
        self._end, records = _read(path, old)
        self._broken = False
        if self._end < len(old):
            self.dropped = len(old) - self._end
            self._cut_off()
        if not records:
            self.append(header)
            sync_folder(path.parent)
        elif records[0] != dict(header):
            self.close()
            raise JournalError(_other_header(path, records[0], header))
        self.records = records[1:]

    @property
    def num_bytes(self) -> int:
        return self._end

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record; it is on disk when this returns.

        Raises:
            JournalError: it is not, and what was before stands as it did; or an earlier one
                could not be undone, after which nothing is written any more.
        """
        if self._broken:
            raise JournalError(f"{self.path}: an earlier write failed: nothing is written since")
        line = _line(record)
        try:
            _write_all(self._file, line, self._end)
            os.fsync(self._file.fileno())
        except OSError as error:
            # What a failed sync has left on disk nobody knows: trust the file no more.
            self._broken = True
            self._cut_off()
            raise JournalError(f"{self.path}: cannot be written: {error.strerror}") from None
        self._end += len(line)

    def close(self) -> None:
        """End writing; the file stays."""
        self._file.close()

    def _cut_off(self) -> None:
        """Remove what follows the last whole record."""
        try:
            self._file.truncate(self._end)
            os.fsync(self._file.fileno())
        except OSError:
            self._broken = True


def read_journal(path: Path) -> tuple[Record, list[Record]]:
    """Header and records of a journal, an incomplete last one left out.

    Raises:
        JournalError: it is damaged, or there is none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from None
    _, records = _read(path, content)
    if not records:
        raise JournalError(f"{path}: holds no whole record")
    return records[0], records[1:]


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(path: Path, content: bytes) -> tuple[int, list[Record]]:
    """Where the last whole record ends, and the records."""
    records: list[Record] = []
    end = 0
    while end < len(content):
        stop = content.find(b"\n", end) + 1
        record = _parsed(content[end : stop - 1]) if stop else None
        if record is None:
            if stop and stop < len(content):
                raise JournalError(
                    f"{path}:{len(records) + 1}: damaged: the record does not have its checksum, "
                    "and others follow it"
                )
            break
        records.append(record)
        end = stop
    return end, records


def _parsed(line: bytes) -> Record | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    record: Record = json.loads(text)
    return record


def _write_all(file: BinaryIO, content: bytes, place: int) -> None:
    file.seek(place)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _other_header(path: Path, found: Record, expected: Mapping[str, Any]) -> str:
    differing = [name for name in expected if found.get(name) != expected[name]]
    told = ", ".join(f"{name} {found.get(name)}, now {expected[name]}" for name in differing)
    return (
        f"{path}: continues other events or another training ({told}): move it away, or restore "
        "the run that it belongs to"
    )
