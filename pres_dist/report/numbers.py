"""Records of metrics.jsonl as plain numbers, for tools that show them during a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pres_dist.records import Record

_NOT_SHOWN = ("kind", "step", "rank")


class Mirror(Protocol):
    """Receiver of every record that is written to metrics.jsonl."""

    def write(self, record: Record) -> None:
        """Receive a record that was appended."""

    def truncate_after(self, step: int) -> None:
        """Remove the records after a checkpoint, because the run resumes from there."""

    def close(self) -> None:
        """End the mirror, as the run has ended."""


def plain(value: Any) -> Any:
    """Convert a value for JSON: torch and numpy numbers become Python's, NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numbers(record: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield every number of a record with its path, e.g. `(validation, ap)`.

    The path contains the index in a list of mappings, such as `workers`:
    `(workers, 1, seconds, wait)`. Lists of numbers are skipped.
    """
    for name, value in record.items():
        if name not in _NOT_SHOWN:
            yield from _below(value, (name,))


def _below(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, list):
        value = {str(n): inner for n, inner in enumerate(value) if isinstance(inner, Mapping)}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in _NOT_SHOWN:
                yield from _below(inner, (*path, str(name)))
    elif isinstance(number := plain(value), int | float):
        yield path, number
