"""A run that died goes on from its checkpoint and ends in the same bits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from pres_dist.config.load import dump_yaml
from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError
from pres_dist.report.metrics_log import read_metrics
from pres_dist.training.checkpoint import BEST, LATEST, Checkpoints
from pres_dist.training.checkpoint_folder import STATE
from pres_dist.training.run import resume, train
from pres_dist.training.trainer import Trainer
from tests.support.nightly import nightly_except
from tests.support.small_run import (
    Died,
    MakeConfig,
    habitual_stream,
    saved_state,
    small_config,
    train_until,
)
from tests.support.states import assert_same


@dataclass(frozen=True)
class Whole:
    """A run from its first step to its last, never interrupted."""

    config: RunConfig
    folder: Path
    results: dict[str, Any]

    def copied(self, folder: Path) -> Path:
        """Copy the run to a folder in which a test may change it."""
        shutil.copytree(self.folder, folder)
        return folder


@pytest.fixture(scope="module", params=[0, 2], ids=["prompt", "lagging"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    habitual_stream().save(folder / "habits")
    config = small_config(folder / "habits")(
        memory__staleness=request.param,
        training__epochs=3,
        training__checkpoint_every=3,
        model__dropout=0.1,  # draws from torch's own generator
        model__aggregator="sequential",
        memory__mailbox_slots=2,
        sampling__strategy="uniform",
    )
    return Whole(config, folder / "run", train(config, folder / "run"))


@pytest.mark.parametrize("die_at", nightly_except([2, 8, 11], [2, 3, 8, 11, 12, 27]))
def test_a_resumed_run_ends_in_the_same_bits(whole: Whole, tmp_path: Path, die_at: int) -> None:
    train_until(whole.config, tmp_path / "broken", step=die_at)
    if die_at < 3:  # before the first checkpoint
        with pytest.raises(CheckpointError, match="no latest checkpoint"):
            resume(tmp_path / "broken")
        return
    assert_same(resume(tmp_path / "broken"), whole.results)
    _assert_same_states(whole.folder, tmp_path / "broken")
    _assert_same_metrics(whole.folder, tmp_path / "broken")


def test_a_resumed_run_that_reads_the_log_ends_in_the_same_bits(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        model__decoder="history",
        sampling__negatives="random, historical, popular",
        training__checkpoint_every=3,
    )
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "broken", step=5)
    assert_same(resume(tmp_path / "broken"), whole)
    _assert_same_states(tmp_path / "whole", tmp_path / "broken")


def test_dying_between_training_and_validation_loses_nothing(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._validate

    def dying(self: Trainer) -> Any:
        if self.state.epoch == 2:
            raise Died
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", dying)
        with pytest.raises(Died):
            train(whole.config, tmp_path / "broken")
    assert_same(resume(tmp_path / "broken"), whole.results)
    _assert_same_metrics(whole.folder, tmp_path / "broken")


def test_a_killed_process_can_be_resumed(whole: Whole, tmp_path: Path) -> None:
    training = whole.config.training.model_copy(update={"epochs": 6})
    slow = whole.config.model_copy(update={"training": training})
    results = train(slow, tmp_path / "whole")
    (tmp_path / "config.yaml").write_text(dump_yaml(slow))
    run_dir = tmp_path / "killed"
    command = [sys.executable, "-m", "pres_dist", "train", str(tmp_path / "config.yaml")]
    process = subprocess.Popen(
        [*command, "--run-dir", str(run_dir)], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (run_dir / "checkpoints" / LATEST).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert_same(resume(run_dir), results)
    _assert_same_states(tmp_path / "whole", run_dir)


@pytest.mark.parametrize("epoch", [2, 3])
def test_the_best_epoch_is_one_of_those_that_follow(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """On another device, no epoch after the resume may be as good as those before."""
    run_dir, original = tmp_path / "run", Trainer._validate
    changed: dict[int, float] = {1: 0.1, 2: 0.2, 3: 0.3}

    def validate(self: Trainer) -> Any:
        return {**original(self), "ap": changed[self.state.epoch]}

    monkeypatch.setattr(Trainer, "_validate", validate)
    train(make_config(training__epochs=3, training__keep_checkpoints=9), run_dir)
    checkpoints = Checkpoints(run_dir)
    ends = {
        checkpoints.open(path.name).training_state().position.epoch: path.name
        for path in sorted((run_dir / "checkpoints").glob("step-*"))
    }
    changed |= {2: 0.02, 3: 0.01}
    assert resume(run_dir, checkpoint=ends[epoch])["best_epoch"] == epoch
    assert checkpoints.open(BEST).name == ends[epoch]


def test_resuming_a_finished_run_repeats_its_results(whole: Whole, tmp_path: Path) -> None:
    assert_same(resume(whole.copied(tmp_path / "run")), whole.results)
    kinds = [record["kind"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert kinds.count("final") == 1
    assert kinds.count("epoch") == 3


@pytest.mark.attack(
    "a checkpoint with a flipped bit, or a file that is missing or cut short",
    before="held",
    after="one error; no older one is taken unless it is asked for",
)
@pytest.mark.parametrize(
    "file", [STATE, "memory/.metadata", "memory/__0_0.distcp", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty list"])
def test_a_damaged_checkpoint_is_never_used(
    whole: Whole, tmp_path: Path, damage: str, file: str
) -> None:
    folder = Checkpoints(whole.copied(tmp_path / "run")).folder
    damaged = folder / (folder / LATEST).read_text().strip() / file
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        damaged.unlink()
    else:
        damaged.write_bytes({"flip": data, "truncate": data[:-1], "empty list": b"[]"}[damage])
    with pytest.raises(CheckpointError):
        resume(tmp_path / "run")


def test_an_older_checkpoint_can_be_asked_for(whole: Whole, tmp_path: Path) -> None:
    """Going on from it ends in the same bits, as if the newest had never been."""
    checkpoints = Checkpoints(whole.copied(tmp_path / "run"))
    older = sorted(path.name for path in checkpoints.folder.glob("step-*"))[0]
    assert older != checkpoints.name(LATEST)
    (checkpoints.folder / checkpoints.name(LATEST) / STATE).write_bytes(b"damaged")
    assert_same(resume(tmp_path / "run", checkpoint=older), whole.results)
    with pytest.raises(CheckpointError, match=f"must be one of .*{older}.*, got step-9"):
        resume(tmp_path / "run", checkpoint="step-9")


def test_only_the_newest_and_the_best_checkpoints_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        checkpoints.save(step, {"step": step}, {})
        if step == 2:
            checkpoints.mark_best()
    checkpoints.wait()
    names = sorted(path.name for path in checkpoints.folder.glob("step-*"))
    assert names == ["step-00000002", "step-00000005", "step-00000006"]
    assert checkpoints.open().state["step"] == 6
    assert checkpoints.open(BEST).state["step"] == 2


@pytest.mark.attack(
    "the disk is full while a checkpoint is written",
    before="held",
    after="one error; the one before stays the newest",
)
@pytest.mark.parametrize(
    "fails", [(os, "fsync"), (dcp.FileSystemWriter, "write_data"), (Path, "rename")]
)
def test_a_save_that_fails_leaves_the_last_checkpoint_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: tuple[object, str]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1}, {"0/0/nodes": torch.arange(3)})
    checkpoints.wait()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*fails, full_disk)
        checkpoints.save(2, {"step": 2}, {"0/0/nodes": torch.arange(3)})
        with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left"):
            checkpoints.wait()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["LATEST", "step-00000001"]
    assert checkpoints.open().state["step"] == 1
    checkpoints.save(2, {"step": 2}, {"0/0/nodes": torch.arange(3)})
    assert checkpoints.open().state["step"] == 2


def _assert_same_metrics(first: Path, second: Path) -> None:
    logs = [read_metrics(folder / "metrics.jsonl") for folder in (first, second)]
    assert_same(*logs)


def _assert_same_states(first: Path, second: Path) -> None:
    for which in (LATEST, BEST):
        assert_same(*(saved_state(folder, which) for folder in (first, second)))
