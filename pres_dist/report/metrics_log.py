"""metrics.jsonl: one JSON object a line, written while a run goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pres_dist.errors import DataError
from pres_dist.files import read_regular, write_atomically
from pres_dist.report.numbers import Mirror, Record, plain
from pres_dist.run_files import METRICS


class MetricsLog:
    """Appends records to a run's metrics.jsonl, and hands them to mirrors.

    A record has a `kind` (step, epoch or final) and the optimizer `step` it belongs to.
    """

    def __init__(self, run_dir: Path, mirrors: Sequence[Mirror] = ()) -> None:
        """Open the log of `run_dir`; a last line that a crash cut short is dropped."""
        self.path = run_dir / METRICS
        self._mirrors = mirrors
        _drop_half_line(self.path)
        self._file = self._opened()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record and hand it to the operating system; NaN and infinity become null.

        Raises:
            DataError: it cannot be written, as on a full disk.
        """
        rest = memoryview(json.dumps(plain(record), allow_nan=False).encode() + b"\n")
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror}") from None
        for mirror in self._mirrors:
            mirror.write(record)

    def truncate_after(self, step: int) -> None:
        """Forget what lies beyond a checkpoint that was taken after `step`.

        That is every later record, and the epoch record of that very step: an epoch
        is validated after its checkpoint, and will be again. A run that is resumed
        has not ended, so no final record stays either.
        """
        self._file.close()
        kept = [
            record
            for record in read_metrics(self.path)
            if record["step"] < step or (record["step"] == step and record["kind"] == "step")
        ]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._opened()
        for mirror in self._mirrors:
            mirror.truncate_after(step)

    def _opened(self) -> io.FileIO:
        # Without a buffer, which a full disk would have Python write again when it is closed.
        return io.FileIO(self.path, "ab")

    def close(self) -> None:
        """Close the files; `write` must not be called afterwards."""
        self._file.close()
        for mirror in self._mirrors:
            mirror.close()


class NoLog:
    """Forgets every record: the log of all workers but the first."""

    def write(self, record: Mapping[str, Any]) -> None:
        pass

    def truncate_after(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


def read_metrics(path: Path) -> list[Record]:
    """The records of a metrics.jsonl; a last line that a crash cut short is left out.

    Raises:
        DataError: A line is damaged.
    """
    if not path.exists():
        return []
    *lines, _half_line = _content(path).split(b"\n")
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def _parse(path: Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if (
        not isinstance(record, dict)
        or not {"kind", "step"} <= record.keys()
        or type(record["step"]) is not int
    ):
        raise DataError(f"{path}:{number}: not a JSON object with kind and step, got {line[:40]!r}")
    return record


def _content(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _drop_half_line(path: Path) -> None:
    data = _content(path) if path.exists() else b""
    if data and not data.endswith(b"\n"):
        write_atomically(path, data[: data.rfind(b"\n") + 1])
