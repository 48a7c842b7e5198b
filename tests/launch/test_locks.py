"""launch/quickstart.sh and launch/test.sh install everything from locks, by hash."""

from __future__ import annotations

import os
import runpy
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from packaging.requirements import Requirement

from tests.support.locks import FOLDER, versions

ROOT = Path(__file__).parents[2]
LOCKER = FOLDER / "lock.py"
LOCKS = sorted(path.stem.removeprefix("lock-") for path in FOLDER.glob("lock-*.txt"))
PYTHONS = ("3.10", "3.11", "3.12")

FAKE_PYTHON = """#!/bin/sh
# Notes how it was called; `-m venv FOLDER` puts itself there, and there is no torch for CPUs.
echo "$@" >> "$LOG"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "- "* | *lock-torch-cpu.txt) exit 1 ;;
esac
"""


def wanted(*extras: str) -> list[Requirement]:
    with mock.patch("setuptools.setup"):
        setup = runpy.run_path(str(ROOT / "setup.py"))
    named = [*setup["REQUIRED"], *(one for extra in extras for one in setup["EXTRAS"][extra])]
    return [Requirement(one) for one in named]


def of_python(version: str) -> dict[str, str]:
    """Return the facts that markers may ask of a late release of a Python version."""
    return {"python_version": version, "python_full_version": f"{version}.99"}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("name", "extras"),
    [("run", ("data", "report", "ray")), ("dev", ("data", "report", "dev")), ("image", ("all",))],
)
def test_a_lock_has_all_that_is_asked_for(name: str, extras: tuple[str, ...], python: str) -> None:
    locked = versions(name, python) | versions("torch-gpu", python)
    for each in wanted(*extras):
        if each.marker is None or each.marker.evaluate(of_python(python)):
            project = each.name.lower().replace("_", "-")
            assert each.specifier.contains(locked[project]), each


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
def test_a_lock_has_the_versions_of_the_constraints(name: str, python: str) -> None:
    lines = (FOLDER / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    locked = versions(name, python)
    for each in pinned:
        project = each.name.lower().replace("_", "-").replace(".", "-")
        applies = each.marker is None or each.marker.evaluate(of_python(python))
        if project in locked and applies:
            assert each.specifier.contains(locked[project]), each


def test_each_lock_has_its_own_packages() -> None:
    assert LOCKS == ["build", "dev", "image", "run", "torch-cpu", "torch-gpu"]
    assert {"setuptools"} == versions("build", "3.11").keys()
    torch = versions("torch-gpu", "3.11")
    assert {"torch", "triton", "nvidia-nccl-cu13"} <= torch.keys()
    for name in ("run", "dev", "image"):
        assert not versions(name, "3.11").keys() & torch.keys()


def test_torch_may_be_the_build_for_cpus() -> None:
    version = versions("torch-gpu", "3.11")["torch"]
    assert versions("torch-cpu", "3.11") == {"torch": f"{version}+cpu"}
    assert versions("torch-cpu", "3.12") == {}


def test_no_registry_is_named() -> None:
    for path in FOLDER.iterdir():
        if path.is_file():
            assert "://" not in path.read_text(), path


@pytest.mark.attack(
    "a package, or the backend that builds one, is exchanged on its way to launch/quickstart.sh",
    before="versions were pinned without hashes, and setuptools of the build not at all",
    after="pip refuses a file whose hash is in none of requirements/lock-*.txt",
)
@pytest.mark.parametrize(("script", "lock"), [("quickstart.sh", "run"), ("test.sh", "dev")])
def test_the_scripts_install_by_hash_alone(script: str, lock: str, tmp_path: Path) -> None:
    fake, log = tmp_path / "python", tmp_path / "log"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    done = subprocess.run(
        [ROOT / "launch" / script],
        env={
            "PATH": os.environ["PATH"],
            "PYTHON": str(fake),
            "PRES_DIST_VENV": str(tmp_path / "venv"),
            "LOG": str(log),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "installing the locked packages" in done.stderr
    installs = [line for line in log.read_text().splitlines() if "pip install" in line]
    named = [line.rpartition("requirements/")[2] for line in installs]
    locks = [f"lock-{name}.txt" for name in ("build", lock, "torch-cpu", "torch-gpu")]
    assert named[:4] == locks
    assert all("--require-hashes" in line and "--no-deps" in line for line in installs[:4])
    assert len(installs) == 5
    assert "--no-deps --no-build-isolation -e" in installs[4]
