"""Runs of a scaling bench: their plan, their start, and refused settings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pres_dist.bench.scaling.scaling_spec import Setup
from pres_dist.cli.main import main
from tests.bench.fake_scaling import CONFIG, World, make_ledger, make_plan, play_run


def test_every_setup_once_and_round_by_round(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, workers=[1, 2, 4], seeds=[0, 5], repeats=2)
    assert plan.modes == {
        Setup("torchrun", 1, 1000): ["strong", "weak"],
        Setup("torchrun", 2, 1000): ["strong"],
        Setup("torchrun", 2, 2000): ["weak"],
        Setup("torchrun", 4, 1000): ["strong"],
        Setup("torchrun", 4, 4000): ["weak"],
        Setup("torchrun", 1, 4000): [],  # one worker on the largest batch may be the fastest
    }
    runs = list(plan.runs())
    assert [(run.seed, run.repeat) for run in runs[::6]] == [(0, 0), (5, 0), (0, 1), (5, 1)]
    assert len({run.fingerprint for run in runs}) == len({run.key for run in runs}) == 24
    for run in runs:
        assert run.config.training.batch_size == run.setup.batch_size
        assert run.config.training.seed == run.seed
        assert run.config.training.num_threads == 1
        assert run.config.training.epochs == 3


def test_one_worker_is_tried_without_what_slows_it_down(tmp_path: Path) -> None:
    slices = make_plan(tmp_path, "--parallel.slices", "4", workers=[2, 4])
    alone = {setup for setup in slices.modes if setup.workers == 1}
    assert alone == {
        Setup("torchrun", 1, 1000),
        Setup("torchrun", 1, 1000, (("parallel.slices", "1"),)),
        Setup("torchrun", 1, 4000, (("parallel.slices", "1"),)),
    }
    replicas = make_plan(tmp_path, "--parallel.replicas", "2", workers=[2], modes=["strong"])
    (alone,) = (setup for setup in replicas.modes if setup.workers == 1)
    assert replicas.run(alone, (0, 0)).config.parallel.replicas == 1


def test_references_can_be_named(tmp_path: Path) -> None:
    named = ["training.num_threads=2,parallel.slices=1", "training.batch_size=500"]
    plan = make_plan(tmp_path, workers=[2], modes=["strong"], references=named)
    assert list(plan.modes)[1:] == [
        Setup("torchrun", 1, 1000),
        Setup("torchrun", 1, 1000, (("training.num_threads", "2"), ("parallel.slices", "1"))),
        Setup("torchrun", 1, 500),
    ]


def test_launchers_are_kept_apart(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, workers=[2], modes=["strong"], launchers=["torchrun", "ray"])
    torchrun, ray, reference = (run for run in plan.runs() if run.seed == 0)
    assert (torchrun.setup.launcher, ray.setup.launcher) == ("torchrun", "ray")
    assert reference.setup.launcher == "torchrun"
    assert torchrun.identity != ray.identity
    file, run_dir = Path("x.yaml"), Path("run")
    assert torchrun.arguments(file, run_dir) == ["train", "x.yaml", "--run-dir", "run"]
    assert "--nproc-per-node=2" in torchrun.launcher(tmp_path)
    assert ray.arguments(file, run_dir)[:4] == ["ray", "x.yaml", "--num-workers", "2"]
    assert ray.launcher(tmp_path) == []


def test_a_run_that_was_stopped_starts_anew_for_its_time_is_wanted(tmp_path: Path) -> None:
    plan, ledger = make_plan(tmp_path, workers=[1], seeds=[0]), make_ledger(tmp_path / "out")
    run = next(plan.runs())
    folder = play_run(run, ledger, World())
    assert ledger.state(run) == "done"
    (folder / "results.json").unlink()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "LATEST").write_text("step-1")
    again = make_ledger(tmp_path / "out")
    assert again.state(run) == "begun"
    assert again.command(run)[0] == "train"
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "--workers must be an integer >= 1, got '0'"),
        (["--workers", "1,two"], "--workers must be an integer >= 1, got 'two'"),
        (["--workers", "2,2"], "--workers must name each value once, got '2,2'"),
        (["--mode", "fast"], "--mode must be strong | weak, got 'fast'"),
        (["--launcher", "mpi"], "--launcher must be torchrun | ray, got 'mpi'"),
        (["--seeds=-1"], "--seeds must be an integer >= 0 and < 9223372036854775808, got '-1'"),
        (["--targets", "high"], "--targets must be a number, got 'high'"),
        (["--reference", "fast"], "--reference takes NAME=VALUE,... of settings, got 'fast'"),
        (["--reference", "speed=2"], "unknown option --speed"),
        (["--reference", "training.batch_size=auto"], "training.batch_size must be a number"),
        (["--training.batch_size", "auto"], "training.batch_size must be a number where workers"),
        (["--training.epoch", "2"], "did you mean `--training.epochs`?"),
        (
            ["--workers", "1,3", "--parallel.slices", "2"],
            "--workers 3: parallel.slices must be a multiple of the 3 workers",
        ),
        (["--training.seed", "3"], "training.seed has no effect here, --seeds has it"),
        (["--reference", "training.num_threads=2,training.seed=3"], "--seeds has it"),
        (["--memory.store", "local"], "memory.store must be auto, sharded or server where several"),
        (["--memory.store", "server"], "memory.store: server needs --launcher ray, got torchrun"),
    ],
)
def test_mistakes(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made-up.yaml"
    path.write_text(CONFIG)
    out = ["--out", str(tmp_path / "out")]
    assert main(["bench", "scaling", str(path), *out, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ray_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made-up.yaml").write_text(CONFIG)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = ["bench", "scaling", str(tmp_path / "made-up.yaml"), "--launcher", "ray"]
    assert main(command) == 2
    assert "needs Ray, which is not installed" in capsys.readouterr().err


def test_only_scaling_takes_settings_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "batch-size", "x.yaml", "--training.epochs", "2"]) == 2
    assert "unrecognized arguments: --training.epochs 2" in capsys.readouterr().err
