"""A mirror does not decide where a run is written to, and its URL holds no secret."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pres_dist.cli.main import main
from pres_dist.config.run import RunConfig
from pres_dist.errors import CheckpointError
from pres_dist.events.stream import EventStream
from pres_dist.remote import RemoteFolder, check_url, without_secrets
from pres_dist.report.environment import describe_environment
from pres_dist.report.run_record import read_record, write_record
from pres_dist.training.fetch import fetch_run
from tests.support.small_run import MakeConfig, train_until

SECRETS = [
    "s3://key:secret@bucket/runs",
    "s3://key:sec/ret@bucket/runs",
    "s3://:secret@bucket/runs",
    "ftp://user%3Asecret@host/runs",
    "FTP://user:secret@host/runs",
    "https://secret@host/runs",
    "simplecache::ftp://user:secret@host/runs",
    "filecache::s3://key:secret@bucket/runs",
    "dir::memory://user:secret@host/runs",
    "s3://bucket/runs::ftp://user:secret@host",
    "a:secret@b::s3://bucket/runs",
    "http://proxy/https://user:secret@host/runs",
    "abfs://container/runs?sig=secret",
    "s3://bucket/runs?account_key=secret",
    "https://host/runs#token=secret",
]


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.attack(
    "`resume` of a copy of a mirror, whose config.yaml names the first one",
    before="the copy stayed as it was; the first got the new checkpoints and lost its own",
    after="the copy that was named gets them, the first is untouched",
)
def test_a_copy_of_a_mirror_goes_on_by_itself(make_config: MakeConfig, tmp_path: Path) -> None:
    first, copy = tmp_path / "first", tmp_path / "copy"
    config = make_config(
        training__checkpoint_every=3, training__checkpoint_mirror=f"file://{first}"
    )
    train_until(config, tmp_path / "run", 8)
    shutil.copytree(first, copy)
    before = content_of(first)
    assert main(["resume", f"file://{copy}/", "--run-dir", str(tmp_path / "new")]) == 0
    assert content_of(first) == before
    assert (copy / "results.json").exists()
    latest = (tmp_path / "new" / "checkpoints" / "LATEST").read_text()
    assert (copy / "checkpoints" / "LATEST").read_text() == latest != before["checkpoints/LATEST"]


@pytest.mark.attack(
    "`resume URL` of a mirror whose config.yaml names a folder of the user as the mirror",
    before="config.yaml, environment.json, metrics.jsonl and results.json there were overwritten",
    after="only the URL that was given and the run folder are written to, later resumes included",
)
@pytest.mark.parametrize("later", [False, True])
def test_a_hostile_mirror_chooses_no_place(
    later: bool, make_config: MakeConfig, tmp_path: Path
) -> None:
    project, far, new = tmp_path / "project", tmp_path / "far", tmp_path / "new"
    project.mkdir()
    (project / "config.yaml").write_text("mine")
    config = make_config(training__checkpoint_every=3, training__checkpoint_mirror=f"file://{far}")
    train_until(config, tmp_path / "run", 8)
    # As if it had been there from the beginning: whoever owns a mirror can write any hash.
    record = read_record(far)
    text = record.config.replace(str(far), str(project))
    assert str(project) in text
    write_record(far, record.model_copy(update={"config": text}))
    (far / "config.yaml").write_text(text)
    (far / "mirror.txt").write_text(f"file://{project}\n")
    resume = ["resume", f"file://{far}", "--run-dir", str(new)]
    if later:
        assert main([*resume, "--fetch-only"]) == 0
        resume = ["resume", str(new)]
    assert main(resume) == 0
    assert content_of(project) == {"config.yaml": b"mine"}
    assert (new / "mirror.txt").read_text() == f"file://{far}\n"


@pytest.mark.attack(
    "`resume URL` of a mirror whose config.yaml names another stream of the user, of the same size",
    before="trained on it, and its memory sent to the mirror",
    after="one error: it is not the stream of the checkpoint; nothing is sent",
)
def test_a_hostile_mirror_chooses_no_stream(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = tmp_path / "far"
    config = make_config(training__checkpoint_every=3, training__checkpoint_mirror=f"file://{far}")
    train_until(config, tmp_path / "run", 8)
    theirs = EventStream.open(config.data.stream)
    replace(theirs, dst=theirs.dst[::-1].copy()).save(tmp_path / "private")
    record = read_record(far)
    text = record.config.replace(config.data.stream, str(tmp_path / "private"))
    write_record(far, record.model_copy(update={"config": text}))
    (far / "config.yaml").write_text(text)
    before = content_of(far)
    assert main(["resume", f"file://{far}", "--run-dir", str(tmp_path / "new")]) == 2
    assert "holds other events: different dst" in capsys.readouterr().err
    assert {name for name in content_of(far) if "checkpoints" in name} == {
        name for name in before if "checkpoints" in name
    }


@pytest.mark.attack(
    "a password, token or signature in a mirror's URL, also behind `simplecache::` and the like",
    before="only a password of a plain URL was refused; the rest went into config.yaml",
    after="one error that does not repeat it, for `training.checkpoint_mirror` and `resume URL`",
)
@pytest.mark.parametrize("url", SECRETS)
def test_no_url_with_a_secret_is_taken(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="must hold no password, token"):
        check_url(url)
    with pytest.raises(ValueError, match="must hold no password"):
        RunConfig(training={"checkpoint_mirror": url})
    assert main(["resume", url, "--run-dir", str(tmp_path / "run")]) == 2
    assert "secret" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    if not url.startswith("a:"):  # not a URL until ://
        assert "sec" not in without_secrets(f"pres-dist resume {url}")


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/runs/one",
        "sftp://me@host:22/runs",
        "file:///runs/a@b:c",
        "simplecache::s3://bucket/runs",
        "abfs://container@account.dfs.core.windows.net/runs",
        "memory://runs",
    ],
)
def test_urls_without_secrets_are_taken(url: str) -> None:
    check_url(url)


def test_an_error_about_any_option_has_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stream is no URL; the error that says so may be kept in a log."""
    url = "s3://key:secret@bucket/stream"
    assert main(["data", "describe", url]) == 2
    assert main(["data", "import", url, "--out", str(tmp_path / "out")]) == 2
    assert main(["evaluate", url]) == 2
    told = capsys.readouterr().err
    assert "secret" not in told
    assert "s3:/***@bucket/stream: not the folder of a run" in told
    assert "got 's3://***@bucket/stream'" in told
    assert without_secrets("sftp://me@host:22/a b@c") == "sftp://me@host:22/a b@c"


def test_the_noted_command_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pres-dist", "train", "--x", "ftp://me:secret@host/runs"])
    noted = describe_environment(0)["command"]
    assert noted == "pres-dist train --x ftp://***@host/runs"


@pytest.mark.attack(
    "`resume URL` into a folder that others write to, with a link planted as `.NAME.part`",
    before="the run went into the folder behind the link, and NAME became a link to it",
    after="NAME is a new folder; the link is not touched",
)
def test_a_planted_link_does_not_lead_a_fetch_away(tmp_path: Path) -> None:
    url, theirs = f"memory://{uuid.uuid4().hex}", tmp_path / "theirs"
    theirs.mkdir()
    for name in (".new.part", ".new.partial", ".new.tmp"):
        (tmp_path / name).symlink_to(theirs)
    remote = RemoteFolder(url, "test")
    remote.write("config.yaml", b"{}\n")
    with pytest.raises(CheckpointError, match="no latest checkpoint"):
        fetch_run(url, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert list(theirs.iterdir()) == []


def test_a_small_file_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    remote = RemoteFolder(f"file://{tmp_path}", "test")
    remote.write("checkpoints/LATEST", b"one")
    (tmp_path / f"checkpoints/LATEST.{'0a' * 8}.part").write_text("half")
    (tmp_path / "own.part").touch()
    remote.remove_partial()
    assert {*content_of(tmp_path)} == {"checkpoints/LATEST", "own.part"}
