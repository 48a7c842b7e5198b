"""metrics.jsonl: appending, crashes, truncation at a checkpoint."""

from __future__ import annotations

import errno
import io
import json
import math
import os
from pathlib import Path

import pytest

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError, DataError
from pres_dist.report.metric_sinks import TensorBoard
from pres_dist.report.metrics_log import MetricsLog, read_metrics


def step(number: int, **more: object) -> dict[str, object]:
    return {"kind": "step", "step": number, **more}


def steps(path: Path) -> list[int]:
    return [record["step"] for record in read_metrics(path)]


def test_records_come_back_as_written(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    records = [step(1, loss=0.5, validation={"ap": 0.9}), step(2, gate=None)]
    for record in records:
        log.write(record)
    assert read_metrics(log.path) == records  # before close: every line is flushed


def test_what_json_cannot_hold_becomes_null(tmp_path: Path) -> None:
    import numpy as np

    log = MetricsLog(tmp_path)
    log.write(step(1, loss=math.nan, inner={"ap": math.inf}, some=[-math.inf], one=np.float32(2)))
    assert "NaN" not in log.path.read_text()
    assert read_metrics(log.path) == [step(1, loss=None, inner={"ap": None}, some=[None], one=2.0)]


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in (1, 2):
        log = MetricsLog(tmp_path)
        log.write(step(number))
        log.close()
    assert steps(log.path) == [1, 2]


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(step(1)) + '\n{"kind": "st')
    assert steps(path) == [1]
    MetricsLog(tmp_path).write(step(2))
    assert steps(path) == [1, 2]


def test_a_first_line_cut_short_is_dropped_too(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind"')
    MetricsLog(tmp_path).write(step(1))
    assert steps(tmp_path / "metrics.jsonl") == [1]


def test_a_resumed_run_forgets_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for number in range(1, 6):
        log.write(step(number))
    log.write({"kind": "epoch", "step": 2})
    log.write({"kind": "epoch", "step": 3})  # validated after the checkpoint: will be again
    log.write({"kind": "final", "step": 3})
    log.truncate_after(3)
    assert [(r["kind"], r["step"]) for r in read_metrics(log.path)] == [
        ("step", 1),
        ("step", 2),
        ("step", 3),
        ("epoch", 2),
    ]
    log.write(step(4))
    assert steps(log.path) == [1, 2, 3, 2, 4]


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "step"}', '{"step": 1}', "", "\xff"])
def test_a_damaged_line_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{json.dumps(step(1))}\n{line}\n{json.dumps(step(3))}\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not a JSON object with kind and step"):
        read_metrics(path)


def test_no_log_has_no_records(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = MetricsLog(tmp_path, [TensorBoard(tmp_path)])
    log.write(step(1, loss=0.5, gate=None))
    workers = [{"rank": rank, "seconds": {"wait": 1.0 + rank}, "host": "a"} for rank in (0, 1)]
    log.write({"kind": "epoch", "step": 1, "validation": {"ap": 0.75}, "workers": workers})
    log.write(step(2, loss=0.25))
    log.truncate_after(1)
    log.write(step(2, loss=0.125))
    log.close()
    accumulator = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert [event.value for event in accumulator.Scalars("step/loss")] == [0.5, 0.125]
    assert [event.value for event in accumulator.Scalars("epoch/validation/ap")] == [0.75]
    assert [event.value for event in accumulator.Scalars("epoch/workers/1/seconds/wait")] == [2.0]
    assert len(accumulator.Tags()["scalars"]) == 4


def test_missing_tensorboard_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="needs TensorBoard, which is not installed"):
        TensorBoard(tmp_path)


@pytest.mark.attack(
    "the disk is full when metrics.jsonl or report.html is written",
    before="a traceback, exit code 1, which launchers take for a lost worker",
    after="one error, exit code 2; at the end of a training, a warning that there is no report",
)
def test_a_full_disk_is_one_error(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log._file.close()
    log._file = io.FileIO("/dev/full", "ab")
    with pytest.raises(DataError, match=r"metrics.jsonl: cannot be written: No space left"):
        log.write(step(1))
    log.close()


def test_whatever_fills_the_disk_is_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/results.json")

    monkeypatch.setattr("pres_dist.cli.main._dispatch", full)
    assert main(["train", "x.yaml"]) == 2
    error = "error: run/results.json: the disk must be writable and have room, got 'No space left"
    assert capsys.readouterr().err.startswith(error)
