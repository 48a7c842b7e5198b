"""Records of metrics.jsonl as plain numbers, for what shows them while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

Record = dict[str, Any]
_NOT_SHOWN = ("kind", "step", "rank")


class Mirror(Protocol):
    """Is handed every record that metrics.jsonl gets."""

    def write(self, record: Mapping[str, Any]) -> None:
        """A record was appended."""

    def truncate_after(self, step: int) -> None:
        """Records after a checkpoint are forgotten, for the run goes on from there."""

    def close(self) -> None:
        """The run has ended."""


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers of torch and numpy become Python's, NaN None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numbers(record: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number of a record with its path, e.g. `(validation, ap)`.

    A list of mappings, such as that of workers, has its places in the path:
    `(workers, 1, seconds, wait)`. Lists of numbers are left out.
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
