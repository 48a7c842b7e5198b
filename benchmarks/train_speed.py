"""Training events per CPU second on one core, and where a step's time goes.

    python benchmarks/train_speed.py configs/wikipedia_no_pres.yaml --training.epochs 3

CPU seconds do not count waiting for a busy machine. The first epoch is a warm-up;
the figures are medians over the others.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from pres_dist.config.load import load_config
from pres_dist.report.environment import describe_environment
from pres_dist.report.metrics_log import read_metrics
from pres_dist.run_files import METRICS
from pres_dist.training.run import train


def measure(config_path: Path, overrides: list[str]) -> dict[str, Any]:
    """Train and sum up the epochs after the first."""
    one_core = ["--training.num_threads", "1", "--training.device", "cpu"]
    config = load_config(config_path, [*overrides, *one_core])
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run")
        records = read_metrics(Path(folder) / "run" / METRICS)
    epochs = [record for record in records if record["kind"] == "epoch"][1:]
    if not epochs:
        raise SystemExit("error: at least 2 epochs are needed, the first is a warm-up")
    stages = {
        name: statistics.median(epoch["stage_seconds"][name] for epoch in epochs)
        for name in epochs[0]["stage_seconds"]
    }
    in_all = sum(stages.values())
    rates = [round(epoch["events_per_cpu_second"]) for epoch in epochs]
    return {
        "config": str(config_path),
        "overrides": overrides,
        "temporal_batch": config.training.batch_size,
        "events_per_cpu_second": rates,
        "median": statistics.median(rates),
        "stage_share": {name: round(seconds / in_all, 3) for name, seconds in stages.items()},
        "peak_rss_mib": round(max(epoch["peak_rss_bytes"] for epoch in epochs) / 2**20),
        "environment": describe_environment(config.training.seed),
    }


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2:]), indent=1))
