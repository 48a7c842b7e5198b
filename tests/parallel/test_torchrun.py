"""`torchrun -m pres_dist train`, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pres_dist.config.load import dump_yaml
from pres_dist.config.run import RunConfig
from pres_dist.training.evaluate_run import evaluate_run
from pres_dist.training.run import resume, train
from tests.support.small_run import MakeConfig, saved_state, train_until
from tests.support.states import assert_same, epochs_of, results_of

TIMEOUT_S = 240


def torchrun(workers: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pres_dist under torchrun on the loopback interface; nothing outlives the call."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={workers}", "-m", "pres_dist", *arguments]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_two_workers_calibrate_and_train_what_one_does(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        training__batch_size="auto",
        calibration__base_batch=10,
        calibration__largest_batch=40,
        calibration__epochs=1,
    )
    alone = train(config, tmp_path / "alone")
    two = ["--run-dir", str(tmp_path / "two"), "--training.tensorboard", "true"]
    result = torchrun(2, "train", _file(config, tmp_path), *two)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("training.batch_size: auto is ") == 1
    assert result.stdout.count("report: ") == 1  # one worker speaks
    records = [
        json.loads((tmp_path / run / "calibration.json").read_text()) for run in ("alone", "two")
    ]
    assert records[0]["batch_size"] == records[1]["batch_size"]
    _assert_alike(results_of(tmp_path / "two"), alone)
    steps = [record["step"] for record in epochs_of(tmp_path / "two")]
    assert steps == [record["step"] for record in epochs_of(tmp_path / "alone")]
    _assert_only_training_is_counted(epochs_of(tmp_path / "two"))
    _assert_shown_in_tensorboard(tmp_path / "two")


def _assert_only_training_is_counted(epochs: list[dict[str, Any]]) -> None:
    """All epochs write the same nodes; validations in between write others."""
    written = [
        sum(
            worker["traffic"]["push"]["local_rows"] + worker["traffic"]["push"]["remote_rows"]
            for worker in epoch["workers"]
        )
        for epoch in epochs
    ]
    assert len(set(written)) == 1
    assert len(written) > 1


def _assert_shown_in_tensorboard(run_dir: Path) -> None:
    """Speed, waiting, bytes, staleness, pending events and what PRES did, of all workers."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = accumulators.EventAccumulator(str(run_dir / "tensorboard"))
    shown.Reload()
    epoch = epochs_of(run_dir)[-1]
    worker = epoch["workers"][1]
    expected = {
        **{name: epoch[name] for name in ("events_per_second", "coherence", "prediction_error")},
        "pending_events_mean": epoch["pending_events_mean"],
        "staleness/0": epoch["staleness"]["0"],
        "workers/1/seconds/wait": worker["seconds"]["wait"],
        "workers/1/traffic/pull/remote_bytes": worker["traffic"]["pull"]["remote_bytes"],
        "workers/1/gradient_bytes": worker["gradient_bytes"],
    }
    for name, value in expected.items():
        last = shown.Scalars(f"epoch/{name}")[-1]
        assert (last.step, last.value) == (epoch["step"], pytest.approx(value, rel=1e-6)), name
    tags = shown.Tags()["scalars"]
    for name in ("events_per_second", "worker_0/seconds/wait", "worker_0/remote_bytes"):
        assert f"step/{name}" in tags


def test_another_number_of_workers_goes_on(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training__optimizer="muon")
    result = torchrun(3, "train", _file(config, tmp_path), "--run-dir", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    by_three = results_of(tmp_path / "run")
    # The last epoch is validated again, and the best one tested, on the memory of three.
    _assert_alike(resume(tmp_path / "run"), by_three)
    result = torchrun(2, "resume", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    _assert_alike(results_of(tmp_path / "run"), by_three)
    result = torchrun(2, "evaluate", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    _assert_alike(json.loads((tmp_path / "run" / "evaluation.json").read_text()), by_three)


def test_a_run_begun_by_one_and_ended_by_two_has_the_same_bits(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(parallel__slices=2, training__checkpoint_every=3)
    train(config, tmp_path / "whole")
    train_until(config, tmp_path / "broken", step=14)
    result = torchrun(2, "resume", str(tmp_path / "broken"))
    assert result.returncode == 0, result.stderr
    whole, broken = (saved_state(folder) for folder in (tmp_path / "whole", tmp_path / "broken"))
    for part in ("model", "store"):
        assert_same(whole[part], broken[part], part)
    assert_same(whole["optimizer"]["state"], broken["optimizer"]["state"], "optimizer")
    assert_same(results_of(tmp_path / "whole"), results_of(tmp_path / "broken"), "results")


def test_groups_and_replicas_from_start_to_end(make_config: MakeConfig, tmp_path: Path) -> None:
    """Four workers: two memories, each swept by two groups with negatives of their own."""
    config = make_config(parallel__epochs=2, parallel__replicas=2, training__batch_size=60)
    result = torchrun(4, "train", _file(config, tmp_path), "--run-dir", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    results = results_of(tmp_path / "run")
    epoch = epochs_of(tmp_path / "run")[0]
    assert [worker["rank"] for worker in epoch["workers"]] == [0, 1, 2, 3]
    assert epoch["step"] == 9  # 1050 events in batches of 60 are 18, of which each memory sweeps 9
    # One worker can evaluate, and as many as before can go on.
    _assert_alike(evaluate_run(tmp_path / "run", config.evaluation), results)
    result = torchrun(4, "resume", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    _assert_alike(results_of(tmp_path / "run"), results)
    result = torchrun(2, "resume", str(tmp_path / "run"))
    assert "must be a multiple of epochs x replicas = 2 x 2 = 4, got 2" in result.stderr


def test_an_error_of_the_user_ends_all_workers(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(data__stream=tmp_path / "nowhere")
    result = torchrun(2, "train", _file(config, tmp_path), "--run-dir", str(tmp_path / "run"))
    assert result.returncode != 0
    assert "nowhere" in result.stderr
    assert not (tmp_path / "run").exists()


def _file(config: RunConfig, folder: Path) -> str:
    path = folder / "config.yaml"
    path.write_text(dump_yaml(config))
    return str(path)


def _assert_alike(first: dict[str, Any], second: dict[str, Any]) -> None:
    """The same up to what rounding can do to a ranking of 225 events."""
    assert first["best_epoch"] == second["best_epoch"]
    for part in ("validation", "test"):
        for metric in ("ap", "auc", "mrr"):
            assert first[part][metric] == pytest.approx(second[part][metric], abs=5e-3)
