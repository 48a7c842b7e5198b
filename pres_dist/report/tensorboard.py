"""Metrics of a run in TensorBoard, during the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pres_dist.errors import ConfigError
from pres_dist.records import Record
from pres_dist.report.numbers import numbers

TENSORBOARD = "tensorboard"


class TensorBoard:
    """Mirror that writes each number of a record as a scalar: `epoch/workers/1/seconds/wait`.

    Args:
        run_dir: event files go into its folder `tensorboard`.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / TENSORBOARD
        self._writer = _summary_writer(self._folder)

    def write(self, record: Record) -> None:
        for path, number in numbers(record):
            name = "/".join((record["kind"], *path))
            self._writer.add_scalar(name, number, record["step"])
        self._writer.flush()

    def truncate_after(self, step: int) -> None:
        self._writer.close()
        self._writer = _summary_writer(self._folder, purge_step=step + 1)

    def close(self) -> None:
        self._writer.close()


def _summary_writer(folder: Path, purge_step: int | None = None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "training.tensorboard needs TensorBoard: pip install 'pres-dist[report]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=purge_step)
