"""Outputs of a run's metrics during the run: TensorBoard and Ray.

Ray's dashboard shows Ray metrics, and Prometheus collects them. They leave the worker through Ray's
agent, which is part of `ray[default]`. In a cluster without the agent, setting them costs
microseconds and has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pres_dist.errors import MissingPackageError
from pres_dist.records import Record
from pres_dist.report.metrics_log import MetricsSink, plain

TENSORBOARD = "tensorboard"
TAGS = ("run", "index")
_NOT_SHOWN = ("kind", "step", "rank")


class TensorBoard(MetricsSink):
    """Sink that writes each number of a record as a scalar: `epoch/workers/1/seconds/wait`.

    Args:
        run_dir: event files go into its folder `tensorboard`.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / TENSORBOARD
        self._writer = self._opened()

    def write(self, record: Record) -> None:
        """Write the numbers of a record."""
        for path, number in _numbers(record):
            name = "/".join((record["kind"], *path))
            self._writer.add_scalar(name, number, record["step"])
        self._writer.flush()

    def truncate_after(self, step: int) -> None:
        """Hide the scalars of later steps."""
        self._writer.close()
        self._writer = self._opened(purge_step=step + 1)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _opened(self, purge_step: int | None = None) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingPackageError("training.tensorboard", "TensorBoard", "report") from None
        return SummaryWriter(str(self._folder), purge_step=purge_step)


class RayMetrics(MetricsSink):
    """Sink with a gauge for each number: `pres_dist_step_events_per_second{run="one"}`.

    The tag `index` is the position of the number in a series: the rank in
    `pres_dist_epoch_workers_seconds_wait`, the lag in `pres_dist_epoch_staleness`. Ray adds the
    prefix `ray_` to the name. It works only within a Ray worker. A gauge has no history to
    truncate, and Ray drops the gauges of a worker that has ended.

    Args:
        run: name of the run, the value of the tag.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Any] = {}

    def write(self, record: Record) -> None:
        """Set the gauges of a record's numbers."""
        for path, number in _numbers({**record, "steps": record["step"]}):
            index = next((part for part in path if part.isdigit()), "")
            words = [part for part in path if not part.isdigit()]
            name = "_".join(("pres_dist", record["kind"], *words))
            name = re.sub(r"\W", "_", name, flags=re.ASCII)
            if name not in self._gauges:
                from ray.util.metrics import Gauge

                about = (
                    "metrics.jsonl of pres_dist; index is the rank of a worker, or a lag in pushes"
                )
                self._gauges[name] = Gauge(name, about, tag_keys=TAGS)
            self._gauges[name].set(number, tags={"run": self._run, "index": index})


def _numbers(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield every number of a record with its path, e.g. `(validation, ap)`.

    The path contains the index in a list of mappings, such as `workers`:
    `(workers, 1, seconds, wait)`. Lists of numbers are skipped.
    """
    if isinstance(value, list):
        value = {str(n): inner for n, inner in enumerate(value) if isinstance(inner, Mapping)}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in _NOT_SHOWN:
                yield from _numbers(inner, (*path, str(name)))
    elif isinstance(number := plain(value), int | float):
        yield path, number
