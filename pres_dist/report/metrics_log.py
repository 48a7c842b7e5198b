"""metrics.jsonl: one JSON object a line, written while a run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pres_dist.errors import ConfigError, DataError
from pres_dist.files import write_atomically
from pres_dist.report.run_folder import METRICS

Record = dict[str, Any]
TENSORBOARD = "tensorboard"


class MetricsLog:
    """Appends records to a run's metrics.jsonl, and to TensorBoard if asked.

    A record has a `kind` (step, epoch or final) and the optimiser `step` it belongs to.
    """

    def __init__(self, run_dir: Path, tensorboard: bool = False) -> None:
        """Open the log of `run_dir`; a last line that a crash cut short is dropped.

        Raises:
            ConfigError: TensorBoard is asked for and not installed.
        """
        self.path = run_dir / METRICS
        self._mirror = _summary_writer(run_dir) if tensorboard else None
        _drop_half_line(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record and hand it to the operating system; NaN and infinity become null."""
        self._file.write(json.dumps(_plain(record), allow_nan=False) + "\n")
        self._file.flush()
        if self._mirror is not None:
            for name, value in _numbers(record):
                self._mirror.add_scalar(f"{record['kind']}/{name}", value, record["step"])

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
        self._file = self.path.open("a", encoding="utf-8")
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = _summary_writer(self.path.parent, purge_step=step + 1)

    def close(self) -> None:
        """Close the files; `write` must not be called afterwards."""
        self._file.close()
        if self._mirror is not None:
            self._mirror.close()


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
    *lines, _half_line = path.read_bytes().split(b"\n")
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def _parse(path: Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not {"kind", "step"} <= record.keys():
        raise DataError(f"{path}:{number}: not a JSON object with kind and step, got {line[:40]!r}")
    return record


def _drop_half_line(path: Path) -> None:
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        write_atomically(path, data[: data.rfind(b"\n") + 1])


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers of torch and numpy become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a record with its path, e.g. `validation/ap`."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif name not in ("kind", "step") and isinstance(plain := _plain(value), int | float):
            yield prefix + name, plain


def _summary_writer(run_dir: Path, purge_step: int | None = None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "training.tensorboard needs TensorBoard: pip install 'pres-dist[report]'"
        ) from None
    return SummaryWriter(str(run_dir / TENSORBOARD), purge_step=purge_step)
