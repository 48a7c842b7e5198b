"""The shell scripts of launch/, run as a user runs them, with a small stream."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from pres_dist.config.load import dump_yaml
from tests.support.launched import Launched, wait_until
from tests.support.small_run import habitual_stream, small_config

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
ONE_MACHINE = {"INTERFACE": "lo", "LOCAL_ADDR": "127.0.0.1", "MAX_RESTARTS": "0"}

SECRETS = {
    "RAY_AUTH_TOKEN": "token-f3a91c",
    "AWS_SECRET_ACCESS_KEY": "key-77b0e2",
    "SOMETHING_OF_THE_USER": "value-5d1c84",
}
"""Values that may be in nothing that a run writes or prints."""

FAKE_SRUN = """#!/usr/bin/env bash
# Runs the tasks here, one after the options for each of --ntasks=N.
set -euo pipefail
while [[ "$1" == --* ]]; do
    [[ "$1" == --ntasks=* ]] && tasks="${1#*=}"
    shift
done
for ((node = tasks - 1; node >= 0; node--)); do
    SLURM_NODEID=$node SLURM_PROCID=$node "$@" &
done
code=0
for job in $(jobs -p); do wait "$job" || code=$?; done
exit "$code"
"""
FAKE_SCONTROL = """#!/usr/bin/env bash
[[ "$*" == "show hostnames node[1-2]" ]] || exit 1
echo localhost
echo node2
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    habitual_stream(600).save(tmp_path / "habits")
    config = small_config(tmp_path / "habits")(training__epochs=1)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    return tmp_path / "config.yaml"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.s*")), ids=lambda path: path.name)
def test_scripts_are_valid_bash(script: Path) -> None:
    result = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    sourced = script.name in ("environment.sh", "workers.sh")
    assert os.access(script, os.X_OK) != sourced or script.suffix == ".sbatch"


@pytest.mark.attack(
    "launch/torchrun.sh killed by SIGKILL, then any other launch",
    before="torchrun's temporary folder stays for ever",
    after="the next launch removes it once its agent has ended; one in use stays",
)
def test_what_a_killed_script_left_is_removed(tmp_path: Path) -> None:
    killed, in_use, foreign = (
        tmp_path / name
        for name in ("pres-dist-launch-killed1234", "pres-dist-launch-inuse12345", "pres-dist-mine")
    )
    for folder in (killed, in_use, foreign):
        (folder / "inside").mkdir(parents=True)
        os.utime(folder, (0, 0))
    lock = os.open(in_use, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sourcing = 'source "$0/environment.sh"; source "$0/workers.sh"'
    try:
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", sourcing, LAUNCH],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            check=True,
        )
    finally:
        os.close(lock)
    assert {*tmp_path.iterdir()} == {in_use, foreign}


@pytest.mark.attack(
    "secrets in the environment of launch/torchrun.sh; sockets on other interfaces",
    before="held",
    after="no secret in the run folder or output; it listens on loopback alone",
)
def test_torchrun_trains_and_leaves_nothing(config_file: Path, tmp_path: Path) -> None:
    """One worker speaks, all listens on loopback, torchrun's files go, and no secret is told."""
    command = [str(LAUNCH / "torchrun.sh"), "2", str(config_file), "--run-dir", "run"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with Launched(command, {"TMPDIR": str(scratch), **SECRETS}, tmp_path) as launched:
        listening = _watch(launched)
        assert launched.wait() == 0, launched.errors()
        assert launched.output().count("2 workers") == 1
        printed = launched.output() + launched.errors()
    assert (tmp_path / "run" / "results.json").exists()
    for told in (printed, *_contents(tmp_path / "run")):
        assert not [value for value in SECRETS.values() if value in told]
    assert listening == {"127.0.0.1"}
    # Torch's own cache is for all runs of a user.
    assert not [path for path in scratch.iterdir() if not path.name.startswith("torchinductor_")]


def test_torchrun_hands_a_signal_on(config_file: Path, tmp_path: Path) -> None:
    command = [str(LAUNCH / "torchrun.sh"), "2", str(config_file), "--run-dir", "run"]
    with Launched([*command, "--training.epochs", "5000"], folder=tmp_path) as launched:
        wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists(), launched)
        launched.process.terminate()
        assert launched.wait() == 143
        assert "Traceback" not in launched.errors()


def test_an_error_of_the_user_is_one_line_before_any_worker_starts(tmp_path: Path) -> None:
    command = [str(LAUNCH / "torchrun.sh"), "2", str(tmp_path / "nowhere.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "nowhere.yaml" in result.stderr


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({}, ["2", "c.yaml", "--run-dir", "x"], "HEAD must be set"),
        ({"HEAD": "a"}, ["2", "c.yaml", "--run-dir", "x"], "NNODES must be set"),
        (
            {"HEAD": "a", "NNODES": "two", "RUN_ID": "r"},
            ["2", "c.yaml", "--run-dir", "x"],
            "NNODES must be a whole number >= 1, got 'two'",
        ),
        ({"HEAD": "a", "NNODES": "2", "RUN_ID": "r"}, ["2", "c.yaml"], "--run-dir is needed"),
        ({"HEAD": "a", "NNODES": "2", "RUN_ID": "r"}, ["0", "c.yaml"], "got '0'"),
        ({}, ["2"], "usage:"),
    ],
)
def test_several_machines_need_to_be_told(
    variables: dict[str, str], arguments: list[str], said: str
) -> None:
    result = subprocess.run(
        [str(LAUNCH / "torchrun_nodes.sh"), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_two_machines_train_together(config_file: Path, tmp_path: Path) -> None:
    command = [str(LAUNCH / "torchrun_nodes.sh"), "1", str(config_file), "--run-dir", "run"]
    common = ONE_MACHINE | {"HEAD": f"127.0.0.1:{_free_port()}", "NNODES": "2", "RUN_ID": "two"}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(Launched(command, common | {"IS_HEAD": is_head}, tmp_path))
            for is_head in ("0", "1")
        ]
        for node in nodes:
            assert node.wait() == 0, node.errors()
        assert sum(node.output().count("2 workers") for node in nodes) == 1
    assert (tmp_path / "run" / "results.json").exists()


def test_slurm_starts_a_torchrun_on_each_machine(config_file: Path, tmp_path: Path) -> None:
    slurm = {
        "SLURM_JOB_ID": str(_free_port() - 20000 + 20000 * 7),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_SUBMIT_DIR": str(ROOT),
    }
    with Launched(
        [_spooled(tmp_path), str(config_file), "--run-dir", "run"],
        ONE_MACHINE | slurm | {"PATH": _fake_slurm(tmp_path)},
        tmp_path,
    ) as launched:
        assert launched.wait() == 0, launched.errors()
        assert launched.output().count("2 workers") == 1
    environment = (tmp_path / "run" / "environment.json").read_text()
    assert f"slurm-{slurm['SLURM_JOB_ID']}" in environment  # requeued, it goes on here


@pytest.mark.parametrize(
    ("variables", "workers"),
    [
        ({"SLURM_GPUS_PER_NODE": "h100:4"}, "4"),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_GPUS_PER_NODE": "4"}, "2"),
        ({"SLURM_GPUS_PER_NODE": "4(x2)"}, "4"),
        ({"SLURM_CPUS_PER_TASK": "3"}, "3"),
        ({"SLURM_CPUS_PER_TASK": "64"}, "8"),
        ({"SLURM_GPUS_PER_NODE": "4", "WORKERS": "1"}, "1"),
    ],
)
def test_slurm_counts_workers(variables: dict[str, str], workers: str, tmp_path: Path) -> None:
    """A repository whose launch script only tells what it was given."""
    script = tmp_path / "launch" / "torchrun_nodes.sh"
    script.parent.mkdir()
    script.write_text("#!/bin/bash\necho $1 $HEAD $NNODES $IS_HEAD\n")
    script.chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "41234",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }
    result = subprocess.run(
        [_spooled(tmp_path), "config.yaml"],
        env={**os.environ, **slurm, **variables, "PATH": _fake_slurm(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    told = {f"{workers} localhost:21234 2 {is_head}" for is_head in (0, 1)}
    assert set(result.stdout.splitlines()) == told


def _spooled(folder: Path) -> str:
    """Slurm runs a copy of the job's script, far from the repository."""
    (folder / "spool").mkdir()
    return str(shutil.copy(LAUNCH / "slurm.sbatch", folder / "spool" / "slurm_script"))


def _fake_slurm(folder: Path) -> str:
    """A PATH on which Slurm's commands run everything on this machine."""
    (folder / "bin").mkdir()
    for name, text in (("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL)):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"


def _contents(run_dir: Path) -> list[str]:
    """All that a run wrote, checkpoints included; its report is among it."""
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert {"environment.json", "report.html", "metrics.jsonl"} <= {path.name for path in files}
    return [path.read_bytes().decode("latin1") for path in files]


def _watch(launched: Launched) -> set[str]:
    """Addresses that processes of the launch listen on, until it ends."""
    addresses: set[str] = set()
    while launched.process.poll() is None:
        for process in launched.processes():
            try:
                connections = process.net_connections(kind="inet")
            except psutil.Error:
                continue
            addresses |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
        time.sleep(0.1)
    return addresses


def _free_port() -> int:
    """A free port that job ids lead to, from 20000 to 39999."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        if 20000 <= port < 40000:
            return port
