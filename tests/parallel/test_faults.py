"""Workers that die under torchrun: the run goes on and ends as if nothing had happened."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pres_dist.config.load import dump_yaml
from pres_dist.report.metrics_log import read_metrics
from pres_dist.training.checkpoint import Checkpoints
from tests.support.launched import Launched, torchrun, wait_until
from tests.support.nightly import nightly_except
from tests.support.small_run import habitual_stream, saved_state, small_config
from tests.support.states import assert_same, results_of

ROOT = str(Path(__file__).parents[2])
HALTING = "tests.parallel.halting"

# On several machines torchrun's store outlives a restart: new workers may read old addresses.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}

QUICK = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "2"}
"""Seconds from SIGTERM, which a worker that halts does not obey, to SIGKILL; torch waits 30."""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    habitual_stream(900).save(folder / "habits")
    config = small_config(folder / "habits")(training__checkpoint_every=3)
    (folder / "config.yaml").write_text(dump_yaml(config))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def undisturbed(config_file: Path) -> Path:
    run = config_file.parent / "undisturbed"
    with torchrun(_train(config_file, run)) as launched:
        assert launched.wait() == 0, launched.errors()
    return run


@pytest.fixture(params=nightly_except(["step", "epoch"], ["step", "checkpoint", "epoch"]))
def place(request: pytest.FixtureRequest) -> str:
    """Place at which the first attempt is killed, see halting.py."""
    return str(request.param)


def test_a_killed_run_ends_as_an_undisturbed_one(
    place: str, config_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    halted = _halting(place, tmp_path)
    with torchrun(
        _train(config_file, run),
        "--max-restarts=2",
        module=HALTING,
        environment=halted,
    ) as launched:
        wait_until(lambda: (tmp_path / "halted").exists(), launched)
        assert Checkpoints(run).any() == (place != "step")
        launched.worker({"step": 0, "checkpoint": 1, "epoch": 1}[place]).kill()
        assert launched.wait() == 0, launched.errors()
        assert ("resumed at" in launched.output()) == (place != "step")
    _assert_same_end(run, undisturbed)


def test_without_a_run_dir_the_folder_of_the_launch_is_found(
    config_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    _leave_another_run(tmp_path / "runs" / "older", undisturbed)
    halted = _halting("checkpoint", tmp_path)
    with torchrun(
        ["train", str(config_file)],
        "--max-restarts=1",
        module=HALTING,
        environment=halted,
        folder=tmp_path,
    ) as launched:
        wait_until(lambda: (tmp_path / "halted").exists(), launched)
        launched.worker(0).kill()
        assert launched.wait() == 0, launched.errors()
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.name != "older")
    _assert_same_end(run, undisturbed)


def test_when_no_restart_is_left_the_launch_fails(config_file: Path, tmp_path: Path) -> None:
    halted = _halting("checkpoint", tmp_path)
    with torchrun(
        _train(config_file, tmp_path / "run"),
        "--max-restarts=0",
        module=HALTING,
        launcher="pres_dist.parallel.agent",
        environment=halted,
    ) as launched:
        wait_until(lambda: (tmp_path / "halted").exists(), launched)
        launched.worker(1).kill()
        assert launched.wait() == 1
        assert "worker 1 was ended by SIGKILL, and no restart is left" in launched.errors()
        assert "ChildFailedError" not in launched.errors()
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_restart_leaves_the_run_of_another_launch_alone(
    config_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The folder in use is an error of the user, at the first attempt and at the second."""
    _leave_another_run(tmp_path / "run", undisturbed)
    before = _files(tmp_path / "run")
    with torchrun(
        _train(config_file, tmp_path / "run"),
        "--max-restarts=1",
        launcher="pres_dist.parallel.agent",
    ) as launched:
        assert launched.wait() == 2
        assert launched.errors().count("must be new or empty") == 1  # one worker, one attempt
    assert _files(tmp_path / "run") == before


@pytest.mark.parametrize("dies_on", nightly_except([1], [0, 1]))
def test_a_worker_of_one_machine_dies_and_both_go_on(
    dies_on: int, config_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Two agents with a worker each: they count restarts apart, and must do the same."""
    run, halted = tmp_path / "run", OWN_STORE | _halting("checkpoint", tmp_path)
    with ExitStack() as stack:
        nodes = [stack.enter_context(node) for node in _two_nodes(config_file, run, halted)]
        wait_until(lambda: (tmp_path / "halted").exists(), *nodes)
        _only_worker(nodes[dies_on]).kill()
        for node in nodes:
            assert node.wait() == 0, node.errors()
    _assert_same_end(run, undisturbed)


def _two_nodes(config_file: Path, run: Path, environment: dict[str, str]) -> Iterator[Launched]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for node in range(2):
        command = [sys.executable, "-m", "pres_dist.parallel.agent", "--nnodes=2"]
        command += ["--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d"]
        command += [f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=two", "--local-addr=127.0.0.1"]
        command += [
            f"--rdzv-conf=is_host={1 - node}",
            "-m",
            HALTING,
            *_train(config_file, run),
        ]
        yield Launched(command, environment)


def _only_worker(node: Launched) -> Any:
    ranks = []
    for rank in (0, 1):
        try:
            ranks.append(node.worker(rank))
        except AssertionError:
            continue
    (worker,) = ranks
    return worker


def _train(config_file: Path, run: Path) -> list[str]:
    return ["train", str(config_file), "--run-dir", str(run)]


def _halting(place: str, folder: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    return QUICK | {"HALT_AT": place, "HALTED": str(folder / "halted"), "PYTHONPATH": path}


def _leave_another_run(folder: Path, pattern: Path) -> None:
    """A run of this very configuration that some other launch has made."""
    folder.mkdir(parents=True)
    for name in ("config.yaml", "environment.json"):
        (folder / name).write_bytes((pattern / name).read_bytes())


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _assert_same_end(run: Path, undisturbed: Path) -> None:
    """Weights, memory, results and the record of every step, to the last bit."""
    for which in ("LATEST", "BEST"):
        first, second = (saved_state(folder, which) for folder in (run, undisturbed))
        assert_same(first, second, which)
    assert_same(results_of(run), results_of(undisturbed), "results")
    steps, expected = (
        [(r["step"], r["loss"]) for r in read_metrics(folder / "metrics.jsonl") if "loss" in r]
        for folder in (run, undisturbed)
    )
    assert [step for step, _ in steps] == [step for step, _ in expected]
    assert [loss for _, loss in steps] == pytest.approx([loss for _, loss in expected], rel=1e-6)
