"""Contents of the image, as far as they can be checked without Docker."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pres_dist
from tests.support.locks import versions

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of instruction and arguments."""
    text = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def test_labels_tell_the_versions_inside() -> None:
    labels = dict(
        part.split("=", 1)
        for kind, rest in instructions()
        if kind == "LABEL"
        for part in shlex.split(rest)
    )
    standard = {"title", "description", "version", "revision", "created"}
    assert {f"org.opencontainers.image.{name}" for name in standard} <= labels.keys()
    locked = versions("image", "3.11") | versions("torch-gpu", "3.11")
    for name in ("torch", "ray", "dgl"):
        assert labels[f"pres_dist.{name}"] == locked[name]
    assert ("ARG", f"VERSION={pres_dist.__version__}") in instructions()
    assert labels["org.opencontainers.image.version"] == "${VERSION}"


def test_the_base_is_pinned_and_the_user_is_not_root() -> None:
    steps = instructions()
    bases = [rest.split()[0] for kind, rest in steps if kind == "FROM"]
    assert set(bases) == {"python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST}"}
    version = dict(rest.split("=") for kind, rest in steps if kind == "ARG" and "=" in rest)
    assert re.fullmatch(r"3\.11\.\d+", version["PYTHON_VERSION"])
    last_from = max(place for place, (kind, _) in enumerate(steps) if kind == "FROM")
    runtime = steps[last_from:]
    users = [rest for kind, rest in runtime if kind == "USER"]
    assert users
    assert users[-1] not in ("0", "root")
    assert {"HEALTHCHECK", "ENTRYPOINT"} <= {kind for kind, _ in runtime}


def test_what_is_copied_is_there_and_not_ignored() -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for kind, rest in instructions():
        if kind != "COPY" or "--from" in rest:
            continue
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        for source in sources:
            assert list(ROOT.glob(source.replace("${VARIANT}", "*"))), source
            assert any(fnmatch.fnmatch(source.split("/")[0], name) for name in allowed), source


def test_the_readme_tells_what_a_container_needs() -> None:
    """Shared memory, GPUs, and the base by its digest."""
    text = (DOCKER / "README.md").read_text()
    for option in ("--shm-size=", "--gpus all", "--init", "--build-arg PYTHON_DIGEST=@sha256:"):
        assert option in text, option
    assert ("ARG", 'PYTHON_DIGEST=""') in instructions()


def test_the_health_check_of_the_image_is_the_one_that_is_copied() -> None:
    (check,) = (rest for kind, rest in instructions() if kind == "HEALTHCHECK")
    copies = [rest.split() for kind, rest in instructions() if kind == "COPY"]
    (scripts,) = (words for words in copies if "docker/healthcheck.sh" in words)
    assert f'"{scripts[-1]}healthcheck.sh", "runs", "15"' in check


def test_hadolint_finds_nothing() -> None:
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    found = subprocess.run([program, DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


# --- entry point --------------------------------------------------------------------------


def entrypoint(
    folder: Path, *arguments: str, shm_kib: int = 4 << 20, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the entry point with programs that say how they were called."""
    for name in ("pres-dist", "torchrun"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@"\nexit 7\n')
    (folder / "df").write_text(f"#!/bin/sh\necho head\necho shm {shm_kib} 0 0 0% /\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    return subprocess.run(
        [DOCKER / "entrypoint.sh", *arguments],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "PRES_DIST_SHM": "/", **environment},
        capture_output=True,
        text=True,
    )


def test_arguments_go_to_pres_dist_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    ran = entrypoint(tmp_path, "train", "a b.yaml")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "pres-dist train a b.yaml\n", "")


def test_another_program_may_be_named(tmp_path: Path) -> None:
    assert entrypoint(tmp_path, "torchrun", "-m", "x").stdout == "torchrun -m x\n"
    assert entrypoint(tmp_path, "sh", "-c", "exit 3").returncode == 3


def test_little_shared_memory_is_told(tmp_path: Path) -> None:
    told = entrypoint(tmp_path, "--help", shm_kib=64 << 10).stderr
    assert told.startswith("warning: / has 64 MiB")
    assert "--shm-size=4g" in told


def test_a_gpu_image_without_a_gpu_says_so(tmp_path: Path) -> None:
    gpu = {"PRES_DIST_VARIANT": "gpu", "PRES_DIST_GPU": str(tmp_path / "gpu")}
    assert "docker run --gpus all" in entrypoint(tmp_path, "--help", **gpu).stderr
    (tmp_path / "gpu").touch()
    assert not entrypoint(tmp_path, "--help", **gpu).stderr


# --- the check without Docker -------------------------------------------------------------

FAKE_PYTHON = """#!/usr/bin/env bash
# `python -m venv FOLDER` makes an environment whose programs only tell how they were called.
echo python "$@" >> "$LOG"
mkdir -p "$3/bin"
for name in pip python pres-dist; do
    printf '#!/bin/sh\\necho %s "$@" >> "$LOG"\\n' "$name" > "$3/bin/$name"
    chmod +x "$3/bin/$name"
done
"""


def test_the_check_runs_the_commands_of_the_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "python").write_text(FAKE_PYTHON)
    (tmp_path / "python").chmod(0o755)
    scratch, log = tmp_path / "scratch", tmp_path / "log"
    ran = subprocess.run(
        [DOCKER / "check.sh", scratch],
        env={**os.environ, "PYTHON": str(tmp_path / "python"), "LOG": str(log)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    last_from = max(place for place, (kind, _) in enumerate(instructions()) if kind == "FROM")
    runs = [rest for kind, rest in instructions()[:last_from] if kind == "RUN"]
    expected = [
        re.sub(r"\$\{TORCH_INDEX_URL:.*?\}\"?\}", "", command)
        .replace("/opt/venv/bin/", "")
        .replace("${VARIANT}", "cpu")
        for run in runs
        for command in run.split("&&")
    ]
    told = log.read_text().replace(f"{scratch}/", "/").splitlines()
    assert [shlex.split(line) for line in told[: len(expected)]] == [
        shlex.split(command) for command in expected
    ]
    assert len(expected) == 6
    assert any(line.startswith("pres-dist train") for line in told[len(expected) :])
    assert (scratch / "src" / "pres_dist" / "__init__.py").exists()
    assert (scratch / "tmp" / "lock-torch-cpu.txt").exists()


# --- health -------------------------------------------------------------------------------


def health(folder: Path) -> int:
    script = DOCKER / "healthcheck.sh"
    return subprocess.run([script, folder / "runs", "15"], capture_output=True).returncode


def test_a_run_that_has_stopped_writing_is_unhealthy(tmp_path: Path) -> None:
    assert health(tmp_path) == 0  # nothing runs yet
    run = tmp_path / "runs" / "quickstart-1"
    run.mkdir(parents=True)
    metrics = run / "metrics.jsonl"
    metrics.touch()
    assert health(tmp_path) == 0
    old = metrics.stat().st_mtime - 16 * 60
    os.utime(metrics, (old, old))
    assert health(tmp_path) == 1
    (run / "results.json").touch()
    assert health(tmp_path) == 0


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the locks are for Python 3.11")
def test_what_is_tested_is_what_is_locked() -> None:
    """The environment of the tests and that of the image have the same versions."""
    from importlib.metadata import version

    locked = versions("image", "3.11") | versions("torch-cpu", "3.11")
    for name in ("torch", "ray", "dgl", "numpy", "pyarrow", "pydantic"):
        assert version(name).partition("+")[0] == locked[name].partition("+")[0]
