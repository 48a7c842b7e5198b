"""A run that trains has its folder to itself, and writes into no other."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pres_dist.cli.main import main
from pres_dist.config.load import dump_yaml
from pres_dist.errors import ConfigError
from pres_dist.report.metrics_log import read_metrics
from pres_dist.report.run_folder import read_config
from pres_dist.training.run import resume, train
from pres_dist.training.trainer import Trainer
from tests.support.lives import end_of
from tests.support.small_run import MakeConfig


def at_step(step: int, what: Callable[[], object]) -> AbstractContextManager[object]:
    """Call something in the middle of training, once."""
    original, left = Trainer._train_step, [what]

    def train_step(trainer: Trainer, *given: Any) -> None:
        if trainer.state.step == step and left:
            left.pop()()
        original(trainer, *given)

    return mock.patch.object(Trainer, "_train_step", train_step)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.attack(
    "`train`, `resume`, `extend` or `serve` of a run that trains",
    before="both wrote: configuration of the one, results of the other; metrics lost; exit 0",
    after="the second ends with one error that names the first; exit 2",
)
def test_a_run_that_trains_is_left_alone(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = make_config(training__checkpoint_every=3), tmp_path / "run"
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    (tmp_path / "new.csv").write_text("src,dst,t\n0,1,1900000000000\n")
    commands = [
        ["train", str(tmp_path / "config.yaml"), "--run-dir", str(run), "--training.seed", "7"],
        ["resume", str(run)],
        ["extend", str(run), str(tmp_path / "new.csv")],
        ["serve", str(run), "--port", "0"],
    ]
    codes: list[int] = []
    with at_step(10, lambda: codes.extend(main(command) for command in commands)):
        train(config, run)
    assert codes == [2] * len(commands)
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if line.startswith("error: ")]) == len(commands)
    assert "must be new or empty" in errors[0]
    assert "only one process at a time may train, resume, extend or serve a run" in errors[1]
    assert read_config(run).training.seed == 0
    undisturbed = tmp_path / "undisturbed"
    train(config, undisturbed)
    assert end_of(run) == end_of(undisturbed)
    kinds = [record["kind"] for record in read_metrics(run / "metrics.jsonl")]
    assert kinds.count("epoch") == 2
    assert kinds[-1] == "final"


@pytest.mark.attack(
    "another run moved into the place of one that trains",
    before="its checkpoints, metrics and results were overwritten; exit 0",
    after="nothing of it is touched; one error, exit 2, and the moved run can be resumed",
)
def test_another_run_in_the_same_place_is_not_touched(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    run, moved, other = tmp_path / "run", tmp_path / "moved", tmp_path / "other"
    train(make_config(training__checkpoint_every=4), other)
    config = make_config(
        training__checkpoint_every=4, training__checkpoint_mirror=f"file://{tmp_path / 'mirror'}"
    )
    as_it_was = files_of(other)

    def swap() -> None:
        while not (tmp_path / "mirror" / "checkpoints" / "LATEST").exists():
            time.sleep(0.01)
        run.rename(moved)
        shutil.copytree(other, run)

    with at_step(6, swap), pytest.raises(ConfigError, match=r"run: must stay in its place"):
        train(config, run)
    assert files_of(run) == as_it_was
    mirrored = [path.name for path in (tmp_path / "mirror" / "checkpoints").glob("step-*")]
    assert mirrored == ["step-00000004"]  # its own, and none of the other run
    resume(moved)
    assert end_of(moved) == end_of(other)


def test_results_are_not_written_into_another_run(make_config: MakeConfig, tmp_path: Path) -> None:
    """The swap comes after the last checkpoint of the run."""
    config, run = make_config(training__epochs=1), tmp_path / "run"
    restore = Trainer.restore_best

    def restore_and_swap(trainer: Trainer) -> None:
        restore(trainer)
        run.rename(tmp_path / "moved")
        run.mkdir()
        (run / "results.json").write_text("{}")

    with (
        mock.patch.object(Trainer, "restore_best", restore_and_swap),
        pytest.raises(ConfigError, match="must stay in its place"),
    ):
        train(config, run)
    assert files_of(run) == {"results.json": b"{}"}
