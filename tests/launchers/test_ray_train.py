"""`pres-dist ray` on a cluster of its own: same results, restarts, errors, nothing left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pres_dist.config.load import dump_yaml
from pres_dist.config.run import RunConfig
from pres_dist.training.run import train
from tests.support.nightly import nightly_except
from tests.support.ray_runs import Ended, RayRun, ended, ray_run, started
from tests.support.small_run import habitual_stream, saved_state, small_config
from tests.support.states import assert_same, epochs_of, results_of

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Undisturbed:
    """A run of two workers, with the folder and the configuration that it was started with."""

    folder: Path
    config: RunConfig
    ended: Ended

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / "two"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("ray")
    habitual_stream().save(folder / "habits")
    config = small_config(Path("habits"))(
        training__epochs=4, training__checkpoint_every=2, training__optimizer="adamw"
    )
    (folder / "run.yaml").write_text(dump_yaml(config))
    shared_memory = set(os.listdir("/dev/shm"))
    run = ray_run("run.yaml", "--num-workers", "2", "--run-dir", "runs/two", cwd=folder)
    assert set(os.listdir("/dev/shm")) <= shared_memory
    return Undisturbed(folder, config, run)


def test_two_workers_train_what_one_trains(
    undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert undisturbed.ended.code == 0, undisturbed.ended.err
    monkeypatch.chdir(undisturbed.folder)
    alone = train(undisturbed.config, Path("runs/alone"))
    two = results_of(undisturbed.run_dir)
    assert two["best_epoch"] == alone["best_epoch"]
    for part in ("validation", "test"):
        for metric in ("ap", "auc", "mrr"):
            assert two[part][metric] == pytest.approx(alone[part][metric], abs=5e-3)
    steps = [
        [one["step"] for one in epochs_of(run)] for run in (undisturbed.run_dir, Path("runs/alone"))
    ]
    assert steps[0] == steps[1]


def test_it_looks_like_train(undisturbed: Undisturbed) -> None:
    lines = undisturbed.ended.out.splitlines()
    assert lines[0] == "run folder: runs/two"
    assert lines[1].startswith("2 workers")
    assert [line.split()[1] for line in lines if "validation AP" in line] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    assert lines[-1] == "report: runs/two/report.html"
    assert undisturbed.ended.err == ""
    command = json.loads((undisturbed.run_dir / "environment.json").read_text())["command"]
    assert command.endswith("ray run.yaml --num-workers 2 --run-dir runs/two")


def test_nothing_is_left(undisturbed: Undisturbed) -> None:
    assert undisturbed.ended.left == []
    assert [path.name for path in (undisturbed.folder / "runs").glob("two*")] == ["two"]


def test_a_killed_worker_costs_nothing_but_time(undisturbed: Undisturbed) -> None:
    killed = _killed(undisturbed, "killed", RayRun.workers)
    note = "died; all workers start again from the newest checkpoint, attempt 2 of 4"
    assert [line for line in killed.out.splitlines() if note in line], killed.out


@pytest.mark.nightly
def test_a_killed_memory_shard_costs_nothing_but_time(undisturbed: Undisturbed) -> None:
    """New shards take what the checkpoint holds; memory in the workers gives the same bits."""
    servers = ["--memory.store", "server", "--memory.shards", "3"]
    killed = _killed(undisturbed, "shards", RayRun.shards, *servers)
    note = "all workers start again from the newest checkpoint, attempt 2 of 4"
    assert [line for line in killed.out.splitlines() if note in line], killed.out


def _killed(
    undisturbed: Undisturbed,
    name: str,
    victims: Callable[[RayRun], list[psutil.Process]],
    *options: str,
) -> Ended:
    """A run of which one process was killed in mid-epoch; it must end as if none had been."""
    run_dir = undisturbed.folder / "runs" / name
    arguments = ["run.yaml", "--run-dir", f"runs/{name}", *options]
    with started(*arguments, cwd=undisturbed.folder) as run:
        run.wait_until(run_dir.exists)
        victim = victims(run)[0]
        run.wait_until((run_dir / "checkpoints" / "LATEST").exists)
        victim.send_signal(signal.SIGKILL)
        killed = ended(run)
    assert killed.code == 0, killed.err
    assert "resumed at epoch 1, batch" in killed.out
    assert "raylet" not in killed.out  # what Ray says of it itself
    assert killed.left == []
    assert_same(results_of(undisturbed.run_dir), results_of(run_dir), "results")
    assert_same(saved_state(undisturbed.run_dir)["model"], saved_state(run_dir)["model"])
    return killed


def test_an_error_of_the_user_is_not_tried_again(undisturbed: Undisturbed) -> None:
    arguments = ["run.yaml", "--data.stream", "nowhere", "--run-dir", "runs/bad"]
    run = ray_run(*arguments, "--num-workers", "1", cwd=undisturbed.folder)
    assert run.code == 2
    assert run.err.startswith("error: stream must be the directory of an imported stream")
    assert len(run.err.splitlines()) == 1
    assert run.out == ""
    assert run.left == []
    assert list((undisturbed.folder / "runs").glob("bad*")) == []


@pytest.mark.attack(
    "SIGHUP of `pres-dist ray`",
    before="ended at once without a checkpoint; two processes of Ray lived on",
    after="treated as SIGTERM: a checkpoint of the last step, exit 143, nothing left",
)
@pytest.mark.parametrize("number", nightly_except([signal.SIGHUP], [signal.SIGTERM, signal.SIGHUP]))
def test_a_terminated_run_leaves_nothing_behind(
    undisturbed: Undisturbed, number: signal.Signals
) -> None:
    name = f"ended-{number.name}"
    run_dir = undisturbed.folder / "runs" / name
    arguments = ["run.yaml", "--training.epochs", "500", "--run-dir", f"runs/{name}"]
    with started(*arguments, cwd=undisturbed.folder) as run:
        run.wait_until((run_dir / "checkpoints" / "LATEST").exists)
        assert _listening(run.descendants()) == {"127.0.0.1"}
        run.process.send_signal(number)
        terminated = ended(run)
    assert terminated.code == 143
    assert "SIGTERM: ended after step" in terminated.out
    assert terminated.err == ""
    assert terminated.left == []
    assert [path.name for path in (undisturbed.folder / "runs").glob(f"{name}*")] == [name]


@pytest.mark.attack(
    "SIGKILL of Ray's gcs_server; a look into Ray's temporary folder as another user",
    before="trained on for 60 s, then exit 1 without a word on `resume`; processes and folders "
    "left; sockets could be replaced by others",
    after="workers write a checkpoint; one error that names `resume`, nothing left; the folder is "
    "in one of mode 0700",
)
def test_a_cluster_that_breaks_leaves_a_checkpoint_and_nothing_else(
    undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run_dir, temporary = undisturbed.folder / "runs" / "broken", Path("/tmp")
    before = set(temporary.glob("pres-dist-ray-*"))
    arguments = ["run.yaml", "--training.epochs", "500", "--run-dir", "runs/broken"]
    arguments += ["--num-workers", "1"]
    environment = {"TMPDIR": str(temporary)}
    with started(*arguments, cwd=undisturbed.folder, environment=environment) as run:
        run.wait_until((run_dir / "checkpoints" / "LATEST").exists)
        (raylet,) = run.named("raylet")
        (socket,) = [part for part in raylet.cmdline() if part.startswith("--raylet_socket_name=")]
        private = Path(*Path(socket.partition("=")[2]).parts[:3])
        assert private.parent == temporary
        assert private.stat().st_mode & 0o777 == 0o700
        # Longer process ids, and numbers of sockets, must fit into 107 characters.
        (gcs,) = run.named("gcs_server")
        gcs.kill()
        broken = ended(run)
    assert broken.code == 1
    (line,) = broken.err.splitlines()
    assert line.startswith("error: gcs_server of Ray was killed or has failed")
    assert "`pres-dist resume runs/broken` continues from the newest checkpoint" in line
    assert broken.left == []
    assert private not in set(temporary.glob("pres-dist-ray-*")) - before
    assert [path.name for path in (undisturbed.folder / "runs").glob("broken*")] == ["broken"]
    assert (run_dir / ".lock").exists()


@pytest.mark.attack(
    "SIGKILL of Ray Train's controller",
    before="a traceback, and nothing about `resume`",
    after="one error that names `resume`; nothing left",
)
def test_a_killed_controller_is_told(undisturbed: Undisturbed) -> None:
    run_dir = undisturbed.folder / "runs" / "controller"
    arguments = ["run.yaml", "--training.epochs", "500", "--run-dir", "runs/controller"]
    arguments += ["--num-workers", "1"]
    with started(*arguments, cwd=undisturbed.folder) as run:
        run.wait_until((run_dir / "checkpoints" / "LATEST").exists)
        (controller,) = run.named("ray::TrainContr")
        controller.kill()
        broken = ended(run)
    assert broken.code == 1
    (line,) = broken.err.splitlines()
    assert line.startswith("error: Ray Train's controller was lost")
    assert "`pres-dist resume runs/controller` continues" in line
    assert broken.left == []


def _listening(processes: list[psutil.Process]) -> set[str]:
    """Addresses that the processes of a run listen on."""
    addresses: set[str] = set()
    for process in processes:
        with suppress(psutil.Error):
            connections = process.net_connections(kind="inet")
            addresses |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return {address.removeprefix("::ffff:") for address in addresses}
