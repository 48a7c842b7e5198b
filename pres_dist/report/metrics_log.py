"""metrics.jsonl: one JSON object per line, written during a run."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pres_dist.errors import DataError
from pres_dist.files import read_regular, write_atomically
from pres_dist.records import Record
from pres_dist.run_files import METRICS


class MetricsSink:
    """Receiver of the records of a run; this one, for all workers except rank 0, discards them."""

    def write(self, record: Record) -> None:
        """Receive a record."""

    def truncate_after(self, step: int) -> None:
        """Remove the records after a checkpoint, because the run resumes from there."""

    def close(self) -> None:
        """End the output, as the run has ended."""


class MetricsLog(MetricsSink):
    """Log that appends records to a run's metrics.jsonl and passes them on to other sinks."""

    def __init__(self, run_dir: Path, sinks: Sequence[MetricsSink] = ()) -> None:
        """Open the log of `run_dir`; drop a last line that a crash cut short."""
        self.path = run_dir / METRICS
        self._sinks = sinks
        data = _content(self.path) if self.path.exists() else b""
        if data and not data.endswith(b"\n"):
            write_atomically(self.path, data[: data.rfind(b"\n") + 1])
        self._file = self._opened()

    def write(self, record: Record) -> None:
        """Append a record without buffering; NaN and infinity become null.

        Raises:
            DataError: it cannot be written, as on a full disk.
        """
        rest = memoryview(json.dumps(plain(record), allow_nan=False).encode() + b"\n")
        try:
            while rest:  # a nearly full disk may accept only a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror}") from None
        for sink in self._sinks:
            sink.write(record)

    def truncate_after(self, step: int) -> None:
        """Remove the records after a checkpoint that was written after `step`.

        These are every later record and the epoch record of that same step: an epoch is
        validated after its checkpoint, and will be validated again. A resumed run has not ended,
        so the final record is removed too.
        """
        self._file.close()
        kept = [
            record
            for record in read_metrics(self.path)
            if record["step"] < step or (record["step"] == step and record["kind"] == "step")
        ]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._opened()
        for sink in self._sinks:
            sink.truncate_after(step)

    def close(self) -> None:
        """Close the files; `write` must not be called afterwards."""
        self._file.close()
        for sink in self._sinks:
            sink.close()

    def _opened(self) -> io.FileIO:
        # Unbuffered: after an error on a full disk, Python would write the buffer again on close.
        return io.FileIO(self.path, "ab")


def read_metrics(path: Path) -> list[Record]:
    """Return the records of a metrics.jsonl, without a last line that a crash cut short.

    Raises:
        DataError: A line is damaged.
    """
    if not path.exists():
        return []
    *lines, _half_line = _content(path).split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if (
            not isinstance(record, dict)
            or not {"kind", "step"} <= record.keys()
            or type(record["step"]) is not int
        ):
            raise DataError(
                f"{path}:{number}: not a JSON object with kind and step, got {line[:40]!r}"
            )
        records.append(cast("Record", record))
    return records


def plain(value: Any) -> Any:
    """Convert a value for JSON: torch and numpy numbers become Python's, NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _content(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
