"""Records read from a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pres_dist.bench.run_records import mean_of_epochs, read_record, time_to


def epoch(number: int, ap: float, events_per_second: float) -> dict[str, object]:
    return {
        "kind": "epoch",
        "step": 10 * number,
        "epoch": number,
        "optimizer_steps": 10 * number,
        "seconds": 5.0,
        "events_per_second": events_per_second,
        "events_per_cpu_second": events_per_second / 2,
        "workers": [{"cpu_seconds": 8.0}],
        "validation": {"ap": ap},
    }


def test_an_epoch_that_was_resumed_at_its_end_says_nothing_of_speed(tmp_path: Path) -> None:
    epochs = [epoch(1, 0.7, 100.0), epoch(2, 0.9, 0.0)]
    text = "".join(json.dumps(record) + "\n" for record in epochs)
    (tmp_path / "metrics.jsonl").write_text(text)
    test = {"ap": 0.8, "accuracy": 0.7, "baselines": {"class prior": {"ap": 0.1, "auc": 0.5}}}
    (tmp_path / "results.json").write_text(json.dumps({"test": test}))
    record = read_record(tmp_path, "done", [])
    assert (record["test"]["accuracy"], record["test"]["mrr"]) == (0.7, None)
    assert record["baselines"]["class prior"]["auc"] == 0.5
    assert mean_of_epochs(record, "events_per_cpu_second") == 50.0
    assert [e["train_seconds"] for e in record["epochs"]] == [pytest.approx(4.0), 0.0]
    assert time_to(record, 0.8) == 16.0
    assert record["optimizer_steps"] == 20
