"""Metrics of the test part of several configurations, presets and seeds, beside the baselines.

    python benchmarks/tables.py configs/nycflights13_edge_classification.yaml --seeds 0 1 2

Prints one Markdown table a configuration: mean over the seeds, and their range. What is in --out
already is not trained again. One thread a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pres_dist.config.load import load_config
from pres_dist.files import write_atomically
from pres_dist.report.environment import describe_environment
from pres_dist.training.run import train

RESULTS = Path(__file__).parent / "results" / "tables"
METRICS = {
    "ap": "AP",
    "auc": "AUC",
    "mrr": "MRR",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--presets", nargs="+", default=["best", "none"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments, overrides = parser.parse_known_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for config in arguments.configs:
        rows = []
        for preset in arguments.presets:
            part = partial(_test_part, config, preset, overrides, arguments.out)
            rows.append((preset, [part(seed) for seed in arguments.seeds]))
        print(f"\n{config.stem}\n\n{_table(rows)}", flush=True)


def _test_part(
    path: Path, preset: str, overrides: list[str], out: Path, seed: int
) -> dict[str, Any]:
    """Results on the test split, from the file that holds them or by training."""
    file = out / f"{path.stem}-{preset}-s{seed}.json"
    chosen = [f"--preset={preset}", f"--training.seed={seed}", "--training.num_threads=1"]
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["overrides"] != overrides:
            raise SystemExit(
                f"error: {file} was trained with {kept['overrides']}: use another --out"
            )
        return dict(kept["test"])
    with tempfile.TemporaryDirectory() as folder:
        results = train(load_config(path, [*overrides, *chosen]), Path(folder) / "run")
    record = {
        "config": str(path),
        "preset": preset,
        "seed": seed,
        "overrides": overrides,
        "test": results["test"],
        "environment": describe_environment(seed),
    }
    write_atomically(file, json.dumps(record, indent=1) + "\n")
    return dict(results["test"])


def _table(rows: list[tuple[str, list[dict[str, Any]]]]) -> str:
    """Presets first, then the baselines, which no seed moves."""
    baselines: Mapping[str, Any] = rows[0][1][0].get("baselines") or {}
    measured = rows[0][1][0]
    names = [name for name in METRICS if isinstance(measured.get(name), float)]
    lines = [["", *(METRICS[name] for name in names)], ["---"] * (len(names) + 1)]
    lines += [[preset, *(_spread(tests, name) for name in names)] for preset, tests in rows]
    lines += [[name, *(_spread([of], key) for key in names)] for name, of in baselines.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(tests: list[dict[str, Any]], name: str) -> str:
    values = [test[name] for test in tests if test.get(name) is not None]
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
