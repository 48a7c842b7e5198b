"""`ray up` with the cluster files, on machines that are folders of this one.

Ray's cluster launcher is the real one. The cloud is replaced by Ray's provider for other machines,
ssh by a shell here, and the programs that the machines are told to run by ones that only
note how they were called.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
ROOT = Path(__file__).parents[2]
TOKEN = "a" * 64
OF_THE_CLOUD = ("available_node_types", "head_node_type", "head_setup_commands", "max_workers")

FAKE_SSH = """#!/usr/bin/env bash
# What stands behind USER@HOST, here and at the home of the machine.
until [[ "$1" == *@* ]]; do shift; done
shift
HOME=$MACHINE exec bash -c "$*"
"""
FAKE_RSYNC = """#!/usr/bin/env bash
# rsync ... SOURCE USER@HOST:TARGET
source="${@: -2:1}" target="${@: -1}"
target="${target#*:}"
[[ "$source" == */ ]] && source="$source."
cp -r "$source" "${target/#\\~/$MACHINE}"
"""
NOTES = """#!/usr/bin/env bash
echo "$(basename "$0") $* [${RAY_AUTH_MODE:-open}]" >> "$NOTED"
"""
MAKES_VENV = """#!/usr/bin/env bash
# python3 -m venv FOLDER
mkdir -p "$3/bin"
for name in pip ray; do cp "$(dirname "$0")/notes" "$3/bin/$name"; done
"""


@dataclass(frozen=True)
class Machines:
    """Folders for the user's machine and another one, and a note of what the other one ran."""

    folder: Path

    @property
    def home(self) -> Path:
        """Home of the other machine."""
        return self.folder / "machine"

    @property
    def noted(self) -> list[str]:
        """Programs that the other machine was told to run, in order."""
        return (self.folder / "noted").read_text().splitlines()

    @property
    def environment(self) -> dict[str, str]:
        paths = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {
            "PATH": paths,
            "HOME": str(self.folder / "user"),
            "MACHINE": str(self.home),
            "NOTED": str(self.folder / "noted"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(self.folder / "tmp"),
        }

    def cluster(self, name: str) -> dict[str, Any]:
        """A cluster file, less what only its cloud can do."""
        text = (ROOT / "launch" / name).read_text().replace("/home/ubuntu", str(self.home))
        loaded: dict[str, Any] = yaml.safe_load(text)
        return loaded


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    for folder in ("bin", "machine", "user/.ray", "repository/requirements"):
        (tmp_path / folder).mkdir(parents=True)
    programs = {"ssh": FAKE_SSH, "rsync": FAKE_RSYNC, "python3": MAKES_VENV}
    for name in ("notes", "sudo", "mountpoint"):
        programs[name] = NOTES
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "user/.ray/auth_token").write_text(TOKEN)
    (tmp_path / "user/key").touch()
    (tmp_path / "repository/setup.py").touch()
    # A login shell forgets PATH.
    paths = shlex.quote(made.environment["PATH"])
    (tmp_path / "machine/.bashrc").write_text(f"export PATH={paths}\n")
    sockets = set(Path("/tmp").glob("ray_ssh_*"))
    yield made
    for folder in set(Path("/tmp").glob("ray_ssh_*")) - sockets:  # where Ray's ssh keeps its own
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["ray-aws.yaml", "ray-gcp.yaml"])
def test_the_head_is_set_up_and_starts_with_the_token(name: str, machines: Machines) -> None:
    cluster = machines.cluster(name)
    kept = {key: value for key, value in cluster.items() if key not in OF_THE_CLOUD}
    kept["provider"] = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": ["127.0.0.2"]}
    kept["auth"]["ssh_private_key"] = str(machines.folder / "user/key")
    # Unlike other providers this one does not leave out the first of these.
    kept["setup_commands"] = cluster["setup_commands"] + cluster["head_setup_commands"]
    (machines.folder / "cluster.yaml").write_text(yaml.safe_dump(kept))
    ray = Path(sys.executable).with_name("ray")
    done = subprocess.run(
        [ray, "up", "-y", "--no-config-cache", machines.folder / "cluster.yaml"],
        env=machines.environment,
        cwd=machines.folder / "repository",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    token = machines.home / ".ray/auth_token"
    assert token.read_text() == TOKEN
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert (machines.home / "pres-dist/setup.py").exists()
    programs = [line.split()[:3] for line in machines.noted]
    assert programs[:3] == [["sudo", "apt-get", "-q"]] * 2 + [["mountpoint", "-q", "/shared"]]
    assert programs[3:5] == [["pip", "install", "--quiet"]] * 2
    assert f"{machines.home}/pres-dist[data,report]" in machines.noted[3]
    assert machines.noted[5] == "ray stop [token]"
    assert machines.noted[6].startswith("ray start --head --port=6379 --dashboard-host=127.0.0.1")
    assert machines.noted[6].endswith("[token]")
    assert len(programs) == 7
    # A shell on the machine has what `pres-dist ray --address auto` needs.
    assert "export RAY_AUTH_MODE=token" in (machines.home / ".bashrc").read_text()


@pytest.mark.parametrize("name", ["ray-aws.yaml", "ray-gcp.yaml"])
def test_a_worker_joins_the_head_with_the_token(name: str, machines: Machines) -> None:
    """Run the commands that the head runs on a worker, with its own files copied there."""
    cluster = machines.cluster(name)
    (machines.home / ".ray").mkdir()
    (machines.home / ".ray/auth_token").write_text(TOKEN)
    for command in cluster["setup_commands"] + cluster["worker_start_ray_commands"]:
        subprocess.run(
            ["ssh", "ubuntu@worker", f"source ~/.bashrc; export RAY_HEAD_IP=10.0.0.1; {command}"],
            env=machines.environment,
            check=True,
            timeout=240,
        )
    stopped, started = machines.noted[-2:]
    assert stopped.startswith("ray stop")
    assert started == "ray start --address=10.0.0.1:6379 --metrics-export-port=8080 [token]"
