"""pres-dist whose first attempt halts where a test wants to kill it.

    python -m tests.parallel.halting train ...

HALT_AT says where worker 0 stops, while the others wait for it:

    step        after the first step that is logged
    checkpoint  after the first checkpoint
    epoch       after the first epoch has been validated and before that is noted

It then makes the file that HALTED names, and sleeps until it is killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pres_dist.cli.main import entry
from pres_dist.report.metrics_log import MetricsLog
from pres_dist.training.checkpoint import Checkpoints

_write, _save = MetricsLog.write, Checkpoints.save


def _halt_at(place: str) -> None:
    halted = Path(os.environ["HALTED"])
    if place == os.environ["HALT_AT"] and not halted.exists():
        halted.touch()
        time.sleep(120)


def _write_or_halt(log: MetricsLog, record: Mapping[str, Any]) -> None:
    if record["kind"] == "epoch":
        _halt_at("epoch")
    _write(log, record)
    _halt_at(record["kind"])


def _save_and_halt(checkpoints: Checkpoints, *given: Any) -> None:
    _save(checkpoints, *given)
    checkpoints.wait()
    if int(os.environ.get("RANK", "0")) == 0:
        _halt_at("checkpoint")


if __name__ == "__main__":
    MetricsLog.write = _write_or_halt  # type: ignore[method-assign]
    Checkpoints.save = _save_and_halt  # type: ignore[method-assign]
    entry()
