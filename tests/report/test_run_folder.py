"""Run folders and atomic writes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError, ConfigError
from pres_dist.files import write_atomically
from pres_dist.report import environment
from pres_dist.report.run_folder import create_run_folder, read_config

NAMED = ["-c", "user.name=x", "-c", "user.email=x@x"]


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    config = RunConfig(name="mine")
    assert read_config(create_run_folder(config, tmp_path / "a" / "b").folder) == config


def test_the_environment_is_described(tmp_path: Path) -> None:
    folder = create_run_folder(RunConfig(), tmp_path / "run").folder
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["hardware"]["cores"] >= 1
    assert environment["seed"] == 0


def test_a_run_of_another_version_is_not_called_damaged(tmp_path: Path) -> None:
    folder = create_run_folder(RunConfig(), tmp_path / "run").folder
    record = folder / "run.json"
    record.write_text(record.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(CheckpointError, match=r"another version of pres_dist; .* must be 1, got 2"):
        read_config(folder)


def test_the_environment_is_read_without_a_lock_on_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "__init__.py").write_text("")
    for command in (["init", "-q"], ["add", "."], [*NAMED, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "report" / "environment.py"))
    os.utime(tmp_path / "__init__.py", (1, 1))  # a plain `git status` would now write the index
    index = tmp_path / ".git" / "index"
    before = index.read_bytes()
    assert environment.git_commit()
    assert index.read_bytes() == before


def test_runs_of_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {create_run_folder(RunConfig(name="mine")).folder for _ in range(4)}
    assert len(folders) == 4
    assert all(folder.parent == Path("runs") for folder in folders)
    assert all(folder.name.startswith("mine-") for folder in folders)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(ConfigError, match="must be new or empty"):
        create_run_folder(RunConfig(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("data")
    with pytest.raises(ConfigError, match="this is a file"):
        create_run_folder(RunConfig(), tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot make a run folder"):
        create_run_folder(RunConfig(), tmp_path / "file" / "run")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert create_run_folder(RunConfig(), tmp_path).folder == tmp_path


def test_another_folder_is_not_that_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a run"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", ["text é\n", b"\x00\xff"])
def test_atomic_writes_replace_the_whole_file(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_text("something longer that was there before")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
