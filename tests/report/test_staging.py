"""Temporary files and folders: what killed writers left, and what others plant."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pres_dist.errors import ConfigError
from pres_dist.files import new_folder, replacing, write_atomically
from pres_dist.launchers import ray_run
from pres_dist.staging import Staged


@pytest.mark.attack(
    "SIGKILL while a file such as `extended/CURRENT` is replaced, then the same command again",
    before="a hidden `.CURRENT.xxxxxxxx` stays for ever",
    after="the next write of that file removes it; one that is being written stays",
)
def test_what_a_killed_write_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed, at_work = Staged(tmp_path / "CURRENT"), Staged(tmp_path / "CURRENT")
    killed.create()
    os.close(killed._descriptor)  # as the death of a process does
    at_work.create()
    write_atomically(tmp_path / "CURRENT", "new")
    assert {*tmp_path.iterdir()} == {tmp_path / "CURRENT", at_work.path}
    at_work.discard()


@pytest.mark.attack(
    "links planted under the names that temporary files might have, in a folder that others write",
    before="`resume URL` wrote through `.NAME.part` into the folder of whoever planted it",
    after="temporary names cannot be foreseen and are created exclusively; links are not followed",
)
def test_planted_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    host = socket.gethostname()
    for name in (".file.part", ".file.tmp", f".file.partial-{host}-{os.getpid()}", ".file.0"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    write_atomically(tmp_path / "file", "mine")
    with new_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_text("mine")
    names = {replaced_name(tmp_path) for _ in range(100)}
    assert len(names) == 100
    assert list((tmp_path / "theirs").iterdir()) == []
    assert (tmp_path / "folder" / "inside").read_text() == "mine"


def replaced_name(folder: Path) -> str:
    with replacing(folder / "file") as temporary:
        return temporary.name


def test_a_temporary_file_is_private_until_it_is_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600
    with new_folder(tmp_path / "folder") as inside:
        assert inside.stat().st_mode & 0o777 == 0o700
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.attack(
    "a link planted as RUN.ray, the folder of Ray Train beside a run folder, in a shared folder",
    before="Ray Train wrote into the folder behind it, and unpickled what lay there",
    after="one error that names it; a folder that an earlier launch left is taken",
)
def test_ray_trains_in_no_folder_that_others_chose(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "run.ray").symlink_to(tmp_path / "theirs")
    with pytest.raises(ConfigError, match=r"run.ray: cannot make a folder: File exists"):
        claim(tmp_path / "run")
    (tmp_path / "run.ray").unlink()
    (tmp_path / "run.ray").mkdir()
    claim(tmp_path / "run")


def claim(run_dir: Path) -> None:
    with ray_run._claimed("name", run_dir):
        pass
