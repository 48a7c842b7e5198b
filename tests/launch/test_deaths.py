"""Death of a launcher, an agent or a terminal: processes that end, and resumed runs."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pres_dist.cli.main import main
from pres_dist.config.load import dump_yaml, load_config
from pres_dist.report.metrics_log import read_metrics
from pres_dist.training.run import train
from tests.support.fault_plan import FaultPlan
from tests.support.launched import Launched, torchrun, wait_until
from tests.support.lives import end_of
from tests.support.nightly import nightly_except
from tests.support.small_run import habitual_stream, small_config

SCRIPT = Path(__file__).parents[2] / "launch" / "torchrun.sh"
EPOCHS = 3


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("deaths")
    habitual_stream(900).save(folder / "habits")
    config = small_config(folder / "habits")(
        training__epochs=EPOCHS,
        training__checkpoint_every=2,
        parallel__slices=2,
        evaluation__baselines=False,
    )
    (folder / "config.yaml").write_text(dump_yaml(config))
    train(config, folder / "undisturbed")  # one worker ends in the same bits
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRES_DIST_VENV", sys.prefix)
        yield folder / "config.yaml"


@pytest.mark.attack(
    "SIGKILL of torchrun's agent, or of launch/torchrun.sh; `resume` at once",
    before="workers trained on unseen; resume failed in 4 of 6 trials, or lost metrics",
    after="workers end with it; resume ends in the bits of an undisturbed run, metrics complete",
)
@pytest.mark.parametrize(
    "victim",
    nightly_except(["bare agent", "script"], ["bare agent", "agent of the script", "script"]),
)
def test_workers_end_with_their_launcher(config_file: Path, tmp_path: Path, victim: str) -> None:
    run, scratch = tmp_path / "run", tmp_path / "scratch"
    scratch.mkdir()
    arguments = [str(config_file), "--run-dir", str(run), "--training.epochs", str(EPOCHS)]
    # Stalls, so that the kill comes while both train.
    stalled = FaultPlan().stall(rank=0, step=6, ms=60_000).environment(tmp_path / "marks")
    environment = stalled | {"TMPDIR": str(scratch), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "2"}
    launched = (
        torchrun(["train", *arguments], environment=environment)
        if victim == "bare agent"
        else Launched([str(SCRIPT), "2", *arguments], environment)
    )
    with launched:
        wait_until(lambda: (tmp_path / "marks" / "fault-0").exists(), launched)
        workers = [launched.worker(0), launched.worker(1)]
        killed = launched.process
        if victim == "agent of the script":
            killed = psutil.Process(workers[0].ppid())
        killed.kill()
        assert main(["resume", str(run)]) == 0
        assert not [worker for worker in workers if _lives(worker)]
        launched.wait()
    assert end_of(run) == end_of(config_file.parent / "undisturbed")
    epochs = [one["epoch"] for one in read_metrics(run / "metrics.jsonl") if one["kind"] == "epoch"]
    assert epochs == list(range(1, EPOCHS + 1))
    if victim == "script":  # the agent has removed the folder of torchrun's own files
        assert not [p for p in scratch.iterdir() if not p.name.startswith("torchinductor_")]


@pytest.mark.attack(
    "SIGHUP of `train`, or its terminal closed",
    before="ended at once, without a checkpoint",
    after="treated as SIGTERM: a checkpoint of the last step, exit 143; ignored under nohup",
)
@pytest.mark.parametrize(
    "how", nightly_except(["terminal", "nohup"], ["signal", "terminal", "nohup"])
)
def test_a_hang_up_is_a_notice(config_file: Path, tmp_path: Path, how: str) -> None:
    run, marks = tmp_path / "run", tmp_path / "marks"
    stalled = FaultPlan().stall(rank=0, step=4, ms=3000).environment(marks)
    command = [sys.executable, "-m", "pres_dist", "train", str(config_file), "--run-dir", str(run)]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["nohup", *command] if how == "nohup" else command,
        env=os.environ | stalled | {"OMP_NUM_THREADS": "1"},
        stdin=theirs if how == "terminal" else subprocess.DEVNULL,
        stdout=theirs if how == "terminal" else subprocess.DEVNULL,
        stderr=theirs if how == "terminal" else subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_take_terminal if how == "terminal" else None,
    )
    os.close(theirs)
    try:
        while not (marks / "fault-0").exists():
            assert process.poll() is None
        if how == "terminal":
            os.close(ours)
        else:
            process.send_signal(signal.SIGHUP)
        assert process.wait(60) == (0 if how == "nohup" else 143)
    finally:
        process.kill()
        process.wait()
        if how != "terminal":
            os.close(ours)
    if how != "nohup":
        newest = (run / "checkpoints" / "LATEST").read_text().strip()
        assert newest == "step-00000005"
        assert main(["resume", str(run)]) == 0
    assert end_of(run) == end_of(config_file.parent / "undisturbed")


def _lives(process: psutil.Process) -> bool:
    """Return whether a process is there, and not only its exit code, which nobody has read."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _take_terminal() -> None:
    """Make the terminal on descriptor 0 that of the new session, whose leader hears of its end."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.attack(
    "SIGSTOP of the leader under torchrun, after results.json",
    before="torchrun waited for ever",
    after="the other workers miss it after `parallel.timeout_s`; restarted, results are complete",
)
@pytest.mark.parametrize("place", nightly_except(["report"], ["report", "exit"]))
def test_a_leader_that_stops_at_the_very_end_is_missed(
    config_file: Path, tmp_path: Path, place: str
) -> None:
    run = tmp_path / "run"
    with torchrun(
        ["train", str(config_file), "--run-dir", str(run), "--parallel.timeout_s", "8"],
        "--max-restarts=1",
        module="tests.launch.stopping",
        launcher="pres_dist.parallel.agent",
        environment={
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "2",
            "STOPPED": str(tmp_path / "stopped"),
            "STOP_AT": place,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    ) as launched:
        assert launched.wait() == 0, launched.errors()
    missed = "worker 0 has not answered for 8 s" in launched.errors()
    assert missed == (place == "report")  # of the other, the agent alone can know
    expected = end_of(config_file.parent / "undisturbed")
    assert end_of(run) == expected
    assert load_config(run / "config.yaml", []).training.epochs == EPOCHS
    assert (run / "report.html").exists()
