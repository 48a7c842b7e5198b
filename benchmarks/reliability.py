"""Cost of checking a stream before its use, and every step for NaN and infinity.

    python benchmarks/reliability.py configs/quickstart.yaml --data.max-events 40000

Shares of CPU seconds, on one core, over an epoch: of the checks of steps in the steps, and of the
check of the stream in all that comes before the first step, imports included.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from pres_dist.config.load import load_config
from pres_dist.events.stream import EventStream
from pres_dist.step.forward import Forward
from pres_dist.training.run import train
from pres_dist.training.step import TrainingStep

ONE_CORE = ["--training.num_threads", "1", "--training.device", "cpu", "--training.epochs", "1"]


class CpuTimes:
    """CPU seconds in methods, those of what they call included."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.first: dict[str, float] = {}
        """CPU seconds of the process at the first call of a method."""

    def watch(self, kind: type, method: str) -> None:
        """Add up the time in a method of a class from now on."""
        original: Callable[..., Any] = getattr(kind, method)

        @wraps(original)
        def timed(*given: Any, **named: Any) -> Any:
            started = time.process_time()
            self.first.setdefault(method, started)
            try:
                return original(*given, **named)
            finally:
                self.seconds[method] += time.process_time() - started

        bound = hasattr(original, "__self__")
        setattr(kind, method, staticmethod(timed) if bound else timed)


def measure(config_path: Path, overrides: list[str]) -> dict[str, float]:
    """Train an epoch and tell the shares of the checks."""
    times = CpuTimes()
    for kind, method in ((EventStream, "verify"), (Forward, "sum_of_state"), (TrainingStep, "run")):
        times.watch(kind, method)
    with tempfile.TemporaryDirectory() as folder:
        train(load_config(config_path, [*overrides, *ONE_CORE]), Path(folder) / "run")
    return {
        "verify_seconds": round(times.seconds["verify"], 3),
        "seconds_to_first_step": round(times.first["run"], 2),
        "share_of_steps_percent": round(
            100 * times.seconds["sum_of_state"] / times.seconds["run"], 2
        ),
    }


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2:])))
