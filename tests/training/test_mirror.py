"""Checkpoints on another file system: whole there or not there, and checked on the way back."""

from __future__ import annotations

import builtins
import json
import multiprocessing as mp
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from pres_dist.cli.main import main
from pres_dist.errors import CheckpointError, ConfigError
from pres_dist.failpoint import failpoint, set_identity
from pres_dist.remote import RemoteFolder
from pres_dist.report.metrics_log import read_metrics
from pres_dist.training import mirror as mirror_module
from pres_dist.training.checkpoint import Checkpoints
from pres_dist.training.fetch import fetch_run
from pres_dist.training.mirror import CheckpointMirror
from pres_dist.training.run import resume, train
from tests.support.fault_injector import disarm
from tests.support.fault_plan import FaultPlan
from tests.support.small_run import MakeConfig, saved_state, train_until
from tests.support.states import assert_same

MEMORY = {"0/0/nodes": torch.arange(3)}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of an S3 server in this process, on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer("127.0.0.1", 0)
        server.start()
        try:
            host, port = server.get_host_and_port()
            patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
            S3FileSystem().mkdir("bucket")
            yield "s3://bucket"
        finally:
            server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a folder that is not there yet."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/far"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    disarm()


def mirrored(url: str, run_dir: Path) -> Checkpoints:
    """Checkpoints of a run folder, with a mirror."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text("{}\n")
    mirror = CheckpointMirror(RemoteFolder(url, "test"), run_dir, 2)
    mirror.begin()
    return Checkpoints(run_dir, keep=2, mirror=mirror)


def save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(step, {"step": step}, MEMORY)
        checkpoints.wait()
        checkpoints._mirror.finish()


def fetched_step(url: str, folder: Path, which: str = "LATEST") -> int:
    """The step of the checkpoint that another machine would go on from."""
    fetch_run(url, folder, which)
    step: int = Checkpoints(folder).open().state["step"]
    return step


@pytest.mark.parametrize("url", ["file", "s3"], indirect=True)
def test_a_lost_machine_costs_nothing(make_config: MakeConfig, url: str, tmp_path: Path) -> None:
    """The run goes on elsewhere from its mirror, in the same bits, and is mirrored on."""
    settings = {"training__checkpoint_every": 3, "model__dropout": 0.1, "training__epochs": 3}
    whole = train(make_config(**settings), tmp_path / "whole")
    train_until(make_config(**settings, training__checkpoint_mirror=url), tmp_path / "lost", 15)
    shutil.rmtree(tmp_path / "lost")
    assert main(["resume", url, "--run-dir", str(tmp_path / "new")]) == 0
    results = json.loads((tmp_path / "new" / "results.json").read_text())
    assert_same(results, whole, "results")
    assert_same(*(saved_state(tmp_path / name)["model"] for name in ("whole", "new")))
    steps = [
        [record["step"] for record in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "new")
    ]
    assert steps[0] == steps[1]
    remote = RemoteFolder(url, "test")
    assert json.loads(remote.read("results.json") or b"") == results
    for which in ("LATEST", "BEST"):
        here = (tmp_path / "new" / "checkpoints" / which).read_bytes()
        assert remote.read(f"checkpoints/{which}") == here
        assert here.decode().strip() in remote.folders("checkpoints")


def test_the_newest_and_the_best_stay(url: str, tmp_path: Path) -> None:
    checkpoints = mirrored(url, tmp_path / "run")
    save(checkpoints, 1, 2)
    checkpoints.mark_best()
    save(checkpoints, 3, 4, 5)
    remote = RemoteFolder(url, "test")
    assert remote.folders("checkpoints") == [f"step-0000000{step}" for step in (2, 4, 5)]
    assert checkpoints.take_totals().mirrored == 5
    assert fetched_step(url, tmp_path / "new") == 5
    assert Checkpoints(tmp_path / "new").open("BEST").state["step"] == 2
    assert fetched_step(url, tmp_path / "older", "step-00000004") == 4


@pytest.mark.parametrize("url", ["memory", "s3"], indirect=True)
def test_no_half_of_an_upload_is_ever_used(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change of the mirror in turn is the one that does not happen, nor any after it."""
    found = []
    for allowed in range(30):
        there, run = f"{url}/{allowed}", tmp_path / f"run-{allowed}"
        save(mirrored(there, run), 1, 2, 3)
        caplog.clear()
        checkpoints = mirrored(there, run)
        checkpoints.wait()
        checkpoints._mirror.finish()
        _break_after(allowed, checkpoints)
        save(checkpoints, 4)
        found.append(fetched_step(there, tmp_path / f"new-{allowed}"))
        warnings = [one for one in caplog.records if one.name == "pres_dist.training.mirror"]
        assert bool(warnings) == bool(checkpoints.take_totals().mirror_failures)
        if not warnings:
            break
    assert found[:4] == [3] * 4
    assert found == sorted(found)
    assert found[-1] == 4
    assert len(found) > 6


def _break_after(allowed: int, checkpoints: Checkpoints) -> None:
    """Let the remote folder take so many changes more."""
    remote, left = checkpoints._mirror._remote, [allowed]

    def breaking(change: Any) -> Any:
        def changed(*arguments: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise CheckpointError("the network is gone")
            change(*arguments)

        return changed

    for name in ("upload", "write", "remove"):
        setattr(remote, name, breaking(getattr(remote, name)))


def test_going_on_from_an_older_one_never_leaves_a_mixture(tmp_path: Path) -> None:
    """Step 3 is made again and differs; until it is whole nothing names it."""
    for allowed in range(30):
        there, run = f"memory://{uuid.uuid4().hex}", tmp_path / f"run-{allowed}"
        checkpoints = mirrored(there, run)
        save(checkpoints, 2, 3)
        checkpoints.mark_best()
        checkpoints.wait()
        checkpoints.go_on_from("step-00000002")
        checkpoints._mirror.finish()
        _break_after(allowed, checkpoints)
        checkpoints.save(3, {"step": 33}, MEMORY)
        checkpoints.wait()
        checkpoints._mirror.finish()
        step = fetched_step(there, tmp_path / f"new-{allowed}")
        if checkpoints.take_totals().mirror_failures == 0:
            break
        assert step == 2 or allowed > 5
    assert step == 33
    assert allowed > 5


@pytest.mark.attack(
    "SIGKILL between two uploads to a mirror",
    before="held",
    after="what is resumed is the older checkpoint or the newer one, never a mixture",
)
@pytest.mark.parametrize("passes", [0, 2, 3, 4])
def test_killed_between_two_uploads(passes: int, tmp_path: Path) -> None:
    """SIGKILL of a process that copies its second checkpoint to a folder."""
    plan = FaultPlan().kill(rank=0, place="mirror", step=2, passes=passes)
    process = mp.get_context("fork").Process(target=_save_two, args=(plan, tmp_path))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert fetched_step(f"file://{tmp_path}/far", tmp_path / "new") == 1


def _save_two(plan: FaultPlan, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= plan.environment(folder / "marks")
    set_identity(rank=0)
    checkpoints = mirrored(f"file://{folder}/far", folder / "run")
    for step in (1, 2):
        failpoint("before_step", step)
        save(checkpoints, step)


@pytest.mark.attack(
    "a flipped byte in a mirror",
    before="held",
    after="one error; nothing is left here",
)
@pytest.mark.parametrize("file", ["state.pt", "memory/.metadata", "manifest.json"])
def test_a_flipped_byte_is_refused(file: str, tmp_path: Path) -> None:
    save(mirrored(f"file://{tmp_path}/far", tmp_path / "run"), 1)
    damaged = tmp_path / "far" / "checkpoints" / "step-00000001" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"far/checkpoints/step-00000001"):
        fetch_run(f"file://{tmp_path}/far", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "run"]


@pytest.mark.attack(
    "names in a mirror's LATEST or manifest that lead out of the folder",
    before="held",
    after="one error; nothing is left here",
)
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("no manifest", r"must be one that is complete there \(none\), got step-00000001"),
        ("no LATEST", "no latest checkpoint"),
        ("LATEST elsewhere", r"complete there \(step-00000001\), got ../../run"),
        ("file elsewhere", "names must stay in the folder"),
        ("no config", "not the mirror of a run"),
    ],
)
def test_what_is_no_checkpoint_is_refused(damage: str, text: str, tmp_path: Path) -> None:
    save(mirrored(f"file://{tmp_path}/far", tmp_path / "run"), 1)
    far = tmp_path / "far" / "checkpoints"
    manifest = far / "step-00000001" / "manifest.json"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "no LATEST":
        (far / "LATEST").unlink()
    elif damage == "LATEST elsewhere":
        (far / "LATEST").write_text("../../run")
    elif damage == "file elsewhere":
        manifest.write_text(json.dumps({"version": 2, "sha256": {"../../../x": "0"}}))
    else:
        (tmp_path / "far" / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=text):
        fetch_run(f"file://{tmp_path}/far", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "run"]


def test_what_the_store_refuses_is_one_error(
    s3: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(training__checkpoint_mirror="s3://nosuch/runs/one")
    with pytest.raises(ConfigError, match=r"checkpoint_mirror: s3://nosuch/runs/one.*: cannot be "):
        train(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match="not the mirror of a run"):
        fetch_run(f"{s3}/nothing", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_mirror_is_an_error_before_anything_is_made(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    for url, text in {
        "bucket/runs": "must be a URL such as s3://",
        "s3://key:secret@bucket/runs": "must hold no password",
    }.items():
        with pytest.raises(ConfigError, match=text):
            make_config(training__checkpoint_mirror=url)
    (tmp_path / "file").write_text("")
    for url in ("nosuch://bucket", f"file://{tmp_path}/file/below"):
        with pytest.raises(ConfigError, match=rf"training.checkpoint_mirror: {url}.* cannot be"):
            train(make_config(training__checkpoint_mirror=url), run)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "config.yaml").write_text("{}")
    with pytest.raises(ConfigError, match="has a run already: choose another URL"):
        train(make_config(training__checkpoint_mirror=f"file://{tmp_path}/far"), run)
    original = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("fsspec"):
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs fsspec: pip install"):
        train(make_config(training__checkpoint_mirror="memory://x"), run)
    assert not run.exists()


def test_a_mirror_that_fails_is_told_and_training_goes_on(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise CheckpointError("the network is gone")

    monkeypatch.setattr(mirror_module.RemoteFolder, "upload", gone)
    config = make_config(training__checkpoint_mirror=f"memory://{uuid.uuid4().hex}")
    train(config, tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    epochs = [record["checkpoints"] for record in records if record["kind"] == "epoch"]
    assert sum(each["mirrored"] for each in epochs) == 0
    resume(tmp_path / "run")


def test_the_url_is_one_that_resume_takes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["resume", f"file://{tmp_path}/far"]) == 2
    assert "--fetch-only` first" in capsys.readouterr().err
    assert main(["resume", str(tmp_path), "--fetch-only"]) == 2
    assert "go with a URL" in capsys.readouterr().err
    save(mirrored(f"file://{tmp_path}/far", tmp_path / "run"), 1)
    new = tmp_path / "new"
    assert main(["resume", f"file://{tmp_path}/far", "--fetch-only", "--run-dir", str(new)]) == 0
    assert Checkpoints(new).open().state["step"] == 1
