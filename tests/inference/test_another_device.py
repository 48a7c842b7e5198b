"""A run that was trained on a GPU is used, and gone on with, on a machine without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pres_dist.cli.main import main
from pres_dist.config.load import load_config
from pres_dist.inference.live import LiveRun
from pres_dist.inference.run import load_run
from pres_dist.report.run_record import read_record, write_record
from pres_dist.training.evaluate_run import evaluate_run


@pytest.fixture
def of_a_gpu(tgn_run: Path, tmp_path: Path) -> Path:
    """A copy of a run whose configuration asks for a GPU that this machine lacks."""
    place = tmp_path / "run"
    shutil.copytree(tgn_run, place)
    record = read_record(place)
    assert record.config.count("device: auto") == 1
    config = record.config.replace("device: auto", f"device: cuda:{torch.cuda.device_count()}")
    (place / "config.yaml").write_text(config)
    write_record(place, record.model_copy(update={"config": config}))
    return place


def test_it_is_used_on_the_best_device_here(tgn_run: Path, of_a_gpu: Path) -> None:
    assert load_run(of_a_gpu).embed().values.tolist() == load_run(tgn_run).embed().values.tolist()
    assert LiveRun(of_a_gpu).device == LiveRun(tgn_run).device
    evaluation = load_config(tgn_run / "config.yaml").evaluation
    found, expected = (evaluate_run(place, evaluation) for place in (of_a_gpu, tgn_run))
    assert found["test"] == expected["test"]


def test_training_goes_on_elsewhere_only_if_asked(
    of_a_gpu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", str(of_a_gpu)]) == 2
    assert "training.device" in capsys.readouterr().err
    assert main(["resume", str(of_a_gpu), "--training.device", "cpu"]) == 0
