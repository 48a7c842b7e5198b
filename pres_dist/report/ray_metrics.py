"""Metrics of a run as Ray metrics, which Ray's dashboard shows and Prometheus collects.

They leave the worker through Ray's agent, which is part of `ray[default]`. In a cluster without
the agent, setting them costs microseconds and has no effect. Ray is imported when the first is set.
"""

from __future__ import annotations

import re
from typing import Any

from pres_dist.records import Record
from pres_dist.report.numbers import numbers

TAGS = ("run", "index")


class RayMetrics:
    """Mirror with a gauge for each number: `pres_dist_step_events_per_second{run="one"}`.

    The tag `index` is the position of the number in a series: the rank in
    `pres_dist_epoch_workers_seconds_wait`, the lag in `pres_dist_epoch_staleness`. Ray adds the
    prefix `ray_` to the name. It works only within a Ray worker.

    Args:
        run: name of the run, the value of the tag.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Any] = {}

    def write(self, record: Record) -> None:
        for path, number in numbers({**record, "steps": record["step"]}):
            index = next((part for part in path if part.isdigit()), "")
            words = [part for part in path if not part.isdigit()]
            gauge = self._gauge("_".join(("pres_dist", record["kind"], *words)))
            gauge.set(number, tags={"run": self._run, "index": index})

    def truncate_after(self, step: int) -> None:
        """Do nothing: a gauge has no history."""

    def close(self) -> None:
        """Do nothing: Ray drops the gauges of a worker that has ended."""

    def _gauge(self, name: str) -> Any:
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            told = "metrics.jsonl of pres_dist; index is the rank of a worker, or a lag in pushes"
            self._gauges[name] = Gauge(name, told, tag_keys=TAGS)
        return self._gauges[name]
