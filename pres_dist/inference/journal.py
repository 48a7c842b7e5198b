"""Write-ahead journal of a run: ingested events are on disk before they are acknowledged.

A record is one line: the length of its text, the CRC-32 of the text and the CRC-32 of these two
numbers, each in eight hexadecimal digits, then the text, which is JSON. The first record is a
header that identifies the stream which the events continue. The others hold events, or the
numbers of dropped events.

Each record is written and synced before the next one is written. So a crash leaves at most one
incomplete record, at the end. Its length distinguishes it from a record that was damaged later:
only a last record whose end is missing may be cut off, since it was never acknowledged.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pres_dist.errors import DataError, PresDistError
from pres_dist.files import write_atomically
from pres_dist.staging import sync

FORMAT = 2
"""Version of the file format; part of the header."""

Record = dict[str, Any]
Row = Sequence[Any]
"""Event in the journal: src, dst, t, features, label."""

_HEAD = len("00000000 00000000 00000000 ")


class JournalError(PresDistError):
    """The journal is damaged, continues other events, or cannot be written."""


@dataclass(frozen=True)
class Contents:
    """Contents of a journal.

    Attributes:
        header: identity of the stream that the events continue.
        rows: acknowledged events in order, by their numbers, which count from 1.
        dropped: reason for each dropped event, by its number.
        torn: bytes of an incomplete last record, which was never acknowledged.
    """

    header: Record
    rows: dict[int, Row]
    dropped: dict[int, str]
    torn: int = 0

    @property
    def num_events(self) -> int:
        """Number of acknowledged events."""
        return next(reversed(self.rows), 0)

    @property
    def kept(self) -> dict[int, Row]:
        """Events that are not dropped, by their numbers."""
        return {number: row for number, row in self.rows.items() if number not in self.dropped}


class Journal:
    """Journal with a single writer.

    Args:
        path: path of the file; created if missing, in a folder that must exist.
        header: identity of the stream that the events continue; the header of an existing
            journal must be equal.

    Attributes:
        contents: contents of an existing journal. The caller may set it to None to free it.

    Raises:
        JournalError: an existing journal is damaged or continues other events.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        expected = {"format": FORMAT, **header}
        try:
            old = path.read_bytes() if path.exists() else b""
            self._end, records = _read(path, old)
            if records:
                check_header(path, records[0], header)
            self._file: BinaryIO = path.open("r+b" if old else "wb", buffering=0)
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened: {error.strerror}") from None
        self.failure: str | None = None
        """Message of the error after which nothing is written; None while writing works."""
        self.num_torn = len(old) - self._end
        """Bytes of the incomplete last record that was cut off."""
        if self.num_torn:
            self._cut_off()
        if not records:
            self.append(expected)
            sync(path.parent)
        self.contents: Contents | None = _contents([expected, *records[1:]], self.num_torn)

    @property
    def num_bytes(self) -> int:
        """Size of all complete records."""
        return self._end

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record and sync it to disk.

        Raises:
            JournalError: the write or the sync failed. Earlier records are unchanged, and all
                later calls raise too.
        """
        if self.failure is not None:
            raise JournalError(f"{self.failure}; nothing is written until a new start")
        text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        sizes = b"%08x %08x " % (len(text), zlib.crc32(text))
        line = b"%s%08x %s\n" % (sizes, zlib.crc32(sizes), text)
        try:
            self._file.seek(self._end)
            view = memoryview(line)
            while view:  # an unbuffered write may be partial
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            # The state on disk after a failed sync is unknown, so refuse all later writes.
            self.failure = f"{self.path}: cannot be written: {error.strerror}"
            self._cut_off()
            raise JournalError(self.failure) from None
        self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut_off(self) -> None:
        """Truncate the file after the last complete record."""
        try:
            self._file.truncate(self._end)
            os.fsync(self._file.fileno())
        except OSError as error:
            self.failure = f"{self.path}: cannot be written: {error.strerror}"


def read_journal(path: Path) -> Contents:
    """Read a journal without changing it.

    Raises:
        JournalError: the journal is damaged or missing.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from None
    end, records = _read(path, content)
    if not records:
        raise JournalError(f"{path}: holds no whole record")
    check_header(path, records[0], records[0])
    return _contents(records, len(content) - end)


def check_header(path: Path, found: Record, header: Mapping[str, Any]) -> None:
    """Raise JournalError unless a journal has the expected header and format."""
    expected = {"format": FORMAT, **header} | {"format": FORMAT}
    if found == expected:
        return
    differing = [name for name in expected if found.get(name) != expected[name]]
    told = ", ".join(f"{name} {found.get(name)}, now {expected[name]}" for name in differing)
    raise JournalError(
        f"{path}: continues other events or another training ({told}): move it away, or restore "
        "the run that it belongs to"
    )


def events_record(first: int, rows: Sequence[Row]) -> Record:
    """Return the record of ingested events, numbered from `first`."""
    return {"first": first, "events": rows}


def drop_record(numbers: Sequence[int], reason: str) -> Record:
    """Return the record that drops events."""
    return {"dropped": list(numbers), "reason": reason}


def drop_events(path: Path, numbers: Sequence[int], reason: str) -> dict[int, Row]:
    """Drop events; the caller holds the lock of the run.

    The events and the reason stay in the file. A crash drops all of them or none.

    Returns:
        the dropped events, by number.

    Raises:
        JournalError: the journal is damaged or cannot be written.
        DataError: there is no such event, or it is already dropped.
    """
    contents = read_journal(path)
    for number in numbers:
        if number not in contents.rows:
            raise DataError(
                f"{path}: an event must have a number from 1 to {contents.num_events}, got {number}"
            )
        if number in contents.dropped:
            raise DataError(f"{path}: event {number} is left out already")
    journal = Journal(path, contents.header)
    try:
        journal.append(drop_record(numbers, reason))
    finally:
        journal.close()
    return {number: contents.rows[number] for number in numbers}


def rescue_journal(path: Path) -> tuple[list[int], Path]:
    """Keep the intact records of a damaged journal; the caller holds the lock of the run.

    Returns:
        the numbers of the lost lines, and the path of the copy of the damaged file.

    Raises:
        JournalError: nothing is damaged, the header is damaged, or files cannot be written.
    """
    kept: list[bytes] = []
    lost: list[int] = []
    end = 0
    try:
        content = path.read_bytes()
        while end < len(content):
            size = _size(content[end : end + _HEAD])
            # The newline has no checksum: restore it in case it is the damaged byte.
            line = content[end : end + (size or 1) - 1] + b"\n"
            if size is not None and _parsed(line) is not None:
                kept.append(line)
                end += size
            else:
                lost.append(len(kept) + len(lost) + 1)
                end = content.find(b"\n", end) + 1 or len(content)
        if b"".join(kept) == content:
            raise JournalError(f"{path}: must be damaged to be rescued, and is not")
        if lost[:1] == [1]:
            raise JournalError(
                f"{path}: the header is damaged, so nobody knows what the events continue: "
                "restore the file from a copy"
            )
        aside = path.with_name(f"{path.stem}-damaged-{zlib.crc32(content):08x}{path.suffix}")
        write_atomically(aside, content)
        write_atomically(path, b"".join(kept))
    except OSError as error:
        raise JournalError(f"{path}: cannot be rescued: {error.strerror}") from None
    return lost, aside


def _contents(records: Sequence[Record], torn: int) -> Contents:
    rows: dict[int, Row] = {}
    dropped: dict[int, str] = {}
    for record in records[1:]:
        rows |= enumerate(record.get("events", ()), record.get("first", 1))
        dropped |= dict.fromkeys(record.get("dropped", ()), record.get("reason", ""))
    return Contents(records[0], rows, dropped, torn)


def _read(path: Path, content: bytes) -> tuple[int, list[Record]]:
    """Return the offset of the end of the last complete record, and the records."""
    records: list[Record] = []
    end = 0
    while end < len(content):
        size = _size(content[end : end + _HEAD])
        line = content[end : end + size] if size is not None else b""
        if size is not None and len(line) < size:  # its end is missing: torn
            break
        record = _parsed(line)
        if record is None:
            raise JournalError(
                f"{path}:{len(records) + 1}: damaged: the record does not have its checksum "
                "(restore the file from a copy, or see `pres-dist journal RUN --rescue`)"
            )
        records.append(record)
        end += len(line)
    return end, records


def _size(head: bytes) -> int | None:
    """Return the size in bytes of the record with this head; None if the head is damaged."""
    if len(head) < _HEAD:
        return _HEAD + 1  # a lower bound: the record is incomplete in any case
    sizes = head[:18]
    if head[18:] != b"%08x " % zlib.crc32(sizes):
        return None
    return _HEAD + int(sizes[:8], 16) + 1


def _parsed(line: bytes) -> Record | None:
    """Return the record of a complete line; None if it is damaged."""
    text = line[_HEAD:-1]
    if not line.endswith(b"\n") or line[9:17] != b"%08x" % zlib.crc32(text):
        return None
    record: Record = json.loads(text)
    return record
