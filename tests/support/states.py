"""Compare the ends of two runs: states, results and records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, equal

from pres_dist.report.metrics_log import read_metrics

TIMES = {
    "checkpoints",
    "seconds",
    "events_per_second",
    "events_per_cpu_second",
    "stage_seconds",
    "peak_rss_bytes",
    "workers",
    "worker_0",
}
"""Entries that differ from run to run."""


def tensors_of(state: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a nested state with its path."""
    if isinstance(state, Tensor):
        yield path, state
    elif isinstance(state, Mapping):
        for name, value in state.items():
            yield from tensors_of(value, f"{path}/{name}" if path else str(name))
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            yield from tensors_of(value, f"{path}/{number}")


def assert_same(first: Any, second: Any, where: str = "state") -> None:
    """Compare two nested states or records to the last bit, but for the entries of TIMES."""
    if isinstance(first, Mapping):
        assert first.keys() - TIMES == second.keys() - TIMES, where
        for name in first.keys() - TIMES:
            assert_same(first[name], second[name], f"{where}/{name}")
        return
    assert type(first) is type(second), where
    if isinstance(first, Tensor):
        assert equal(first, second), where
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{number}]")
    else:
        assert first == second, where


def results_of(run_dir: Path) -> dict[str, Any]:
    """Read the results of a run."""
    results: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return results


def epochs_of(run_dir: Path) -> list[dict[str, Any]]:
    """Read the record of each epoch of a run."""
    records = read_metrics(run_dir / "metrics.jsonl")
    return [record for record in records if record["kind"] == "epoch"]
