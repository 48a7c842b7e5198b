"""Checkpoints whose hashes are right and whose content is not: one error each, exit code 2."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

from pres_dist.cli.main import main
from pres_dist.training.checkpoint_folder import STATE
from pres_dist.training.run import train
from tests.support.resealed import change_state, reseal
from tests.support.small_run import habitual_stream, small_config

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    habitual_stream(600).save(folder / "habits")
    train(small_config(folder / "habits")(training__epochs=1), folder / "run")
    return folder / "run"


@pytest.fixture
def run_dir(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def checkpoint(run_dir: Path) -> Path:
    (folder,) = (run_dir / "checkpoints").glob("step-*")
    return folder


def refused(run_dir: Path, capsys: pytest.CaptureFixture[str], words: str, *names: str) -> None:
    """Each command ends with one error that has these words."""
    for name in names or ("resume", "evaluate", "embed"):
        options = ["--out", f"{run_dir}/out.csv"] if name == "embed" else []
        assert main([name, str(run_dir), *options]) == 2, name
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert words in lines[0], lines[0]


def first_state(state: dict[str, Any]) -> dict[str, Any]:
    moments: dict[str, Any] = state["optimizer"]["state"][0]
    return moments


def set_weight(state: dict[str, Any], value: object) -> None:
    state["model"][next(iter(state["model"]))] = value


STATES: dict[str, tuple[Change, str]] = {
    "no position": (lambda state: state.pop("position"), "position: field required"),
    "no fingerprint": (lambda state: state.pop("fingerprint"), "fingerprint: field required"),
    "no optimizer": (lambda state: state.pop("optimizer"), "optimizer: field required"),
    "no generators": (lambda state: state.pop("random"), "random: field required"),
    "no weights": (lambda state: state.pop("model"), "model: field required"),
    "more": (lambda state: state.update(more=1), "more: extra inputs are not permitted, got 1"),
    "epoch": (lambda state: state["position"].update(epoch=-5), "position.epoch: input should be"),
    "batch": (lambda state: state["position"].update(batch=-1), "position.batch: input should be"),
    "text": (lambda state: state["position"].update(step="a"), "position.step: input should be"),
    "nan": (lambda state: state["position"].update(seconds=float("nan")), "position.seconds"),
    "one weight less": (lambda state: state["model"].popitem(), "misses"),
    "a shape": (lambda state: set_weight(state, torch.ones(3)), "of shape [3]"),
    "a number": (lambda state: set_weight(state, 3), "model."),
    "sparse": (lambda state: set_weight(state, torch.eye(3).to_sparse()), "a dense tensor"),
    "events": (lambda state: state["fingerprint"].update(dst="0" * 64), "different dst"),
}
RESUMED: dict[str, tuple[Change, str]] = {
    "far epoch": (lambda state: state["position"].update(epoch=9), "got epoch 9, batch"),
    "far batch": (lambda state: state["position"].update(batch=10**9), "got epoch 1, batch 10000"),
    "groups": (lambda state: state["optimizer"]["param_groups"].pop(), "optimizer.param_groups"),
    "moments": (lambda state: first_state(state).pop("momentum"), "misses momentum"),
    "moment": (lambda state: first_state(state).update(momentum=torch.ones(9)), "momentum must be"),
    "sums": (lambda state: state["totals"].update(sums=torch.ones(2)), "totals: sums must be"),
    "generator": (
        lambda state: state["random"][0].update(cpu=torch.ones(2)),
        "random: not the state",
    ),
    "no generator": (lambda state: state["random"][0].clear(), "random: not the state"),
}


@pytest.mark.attack(
    "a state.pt with a right hash and a part missing or wrong",
    before="traceback, exit code 1; epoch -5 trained ten epochs more",
    after="one error that names the part; exit code 2",
)
@pytest.mark.parametrize("name", STATES)
def test_every_command_checks_the_state(
    run_dir: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, words = STATES[name]
    change_state(run_dir, change)
    refused(run_dir, capsys, words, "resume", "evaluate")
    if name in ("no weights", "epoch"):
        refused(run_dir, capsys, words, "embed")


@pytest.mark.parametrize("name", RESUMED)
def test_resume_checks_what_it_goes_on_from(
    run_dir: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, words = RESUMED[name]
    change_state(run_dir, change)
    refused(run_dir, capsys, words, "resume")


@pytest.mark.attack(
    "a zip bomb as state.pt",
    before="unpacked into memory",
    after="one error before anything is unpacked",
)
@pytest.mark.parametrize("kind", ["bomb", "claim", "text", "list"])
def test_files_of_tensors_are_bounded(
    run_dir: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    file = checkpoint / STATE
    if kind == "text":
        file.write_text("not a zip archive")
    elif kind == "list":
        torch.save([1, 2], file)
    else:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        how = zipfile.ZIP_DEFLATED if kind == "bomb" else zipfile.ZIP_STORED
        with zipfile.ZipFile(file, "w", how) as archive:
            for name, content in members.items():
                if kind == "bomb" and name.endswith("/data/0"):
                    content = b"\0" * (1 << 24)
                if kind == "claim" and name.endswith("/data/0"):
                    content = b""
                archive.writestr(name, content)
    reseal(checkpoint)
    words = {"bomb": "must not be compressed", "list": "got list"}.get(kind, "cannot be read")
    refused(run_dir, capsys, words)


def change_metadata(checkpoint: Path, change: Callable[[Any], None]) -> None:
    file = checkpoint / "memory" / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    change(metadata)
    file.write_bytes(pickle.dumps(metadata))
    reseal(checkpoint)


def place(metadata: Any, name: str = "0/0/rows/memory_UD") -> Any:
    return next(value for index, value in metadata.storage_data.items() if index.fqn == name)


def sized(metadata: Any, size: list[int], name: str = "0/0/rows/memory_UD") -> None:
    # `torch.Size` takes any numbers, negative ones too.
    entry = metadata.state_dict_metadata[name]
    entry.size = torch.Size(size)
    entry.chunks = [ChunkStorageMetadata(torch.Size([0] * len(size)), entry.size)]


def without_nodes(metadata: Any) -> None:
    metadata.state_dict_metadata.pop("0/0/nodes")
    metadata.storage_data = {
        index: value for index, value in metadata.storage_data.items() if index.fqn != "0/0/nodes"
    }


METADATA: dict[str, tuple[Callable[[Any], None], str]] = {
    "huge": (lambda metadata: sized(metadata, [2**40, 8]), "must have its"),
    "negative": (lambda metadata: sized(metadata, [-5, 8]), "must have its"),
    "two negatives": (lambda metadata: sized(metadata, [-5, -8]), "must have its"),
    "offset": (lambda metadata: setattr(place(metadata), "offset", -1), "must be within"),
    "length": (lambda metadata: setattr(place(metadata), "length", 2**50), "must be within"),
    "transformed": (
        lambda metadata: setattr(place(metadata), "transform_descriptors", ["zstd"]),
        "stored as it is",
    ),
    "no places": (lambda metadata: setattr(metadata, "storage_data", None), "cannot be read"),
    "no tensors": (lambda metadata: setattr(metadata, "state_dict_metadata", 3), "cannot be read"),
    "no nodes": (without_nodes, "must say of which nodes"),
}


@pytest.mark.attack(
    "a memory/.metadata with a right hash and wrong sizes or places",
    before="traceback, or an allocation of terabytes",
    after="one error before anything is allocated",
)
@pytest.mark.parametrize("name", METADATA)
def test_metadata_must_fit_its_files(
    run_dir: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, words = METADATA[name]
    change_metadata(checkpoint, change)
    refused(run_dir, capsys, words, "evaluate")


@pytest.mark.attack(
    "a memory/.metadata that points outside of the checkpoint",
    before="tensors of a file elsewhere were read, which no hash covers",
    after="one error; nothing outside is opened",
)
@pytest.mark.parametrize("where", ["absolute", "parent", "link"])
def test_tensors_must_be_in_the_checkpoint(
    run_dir: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    outside = run_dir / "outside.distcp"
    own = checkpoint / "memory" / "__0_0.distcp"
    shutil.copy(own, outside)
    target = {"absolute": str(outside), "parent": "../../../outside.distcp"}.get(where, "x.distcp")
    if where == "link":
        (checkpoint / "memory" / "x.distcp").symlink_to(outside)
    change_metadata(checkpoint, lambda metadata: setattr(place(metadata), "relative_path", target))
    refused(run_dir, capsys, f"must be in a file of its folder, got {target!r}", "evaluate")


@pytest.mark.attack(
    "a FIFO in place of a file of a run",
    before="waited for ever",
    after="one error; exit code 2",
)
@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "run.json",
        "checkpoints/BEST",
        "CHECKPOINT/state.pt",
        "CHECKPOINT/manifest.json",
        "CHECKPOINT/memory/.metadata",
        "CHECKPOINT/memory/__0_0.distcp",
    ],
)
def test_a_fifo_is_refused(
    run_dir: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = run_dir / name.replace("CHECKPOINT", f"checkpoints/{checkpoint.name}")
    file.unlink()
    os.mkfifo(file)
    refused(run_dir, capsys, "", "evaluate")


@pytest.mark.parametrize("which", ["LATEST", "BEST"])
def test_no_flipped_bit_of_a_pointer_is_a_traceback(
    run_dir: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    file = run_dir / "checkpoints" / which
    content = file.read_bytes()
    command = "resume" if which == "LATEST" else "evaluate"
    for place in range(0, len(content) - 1):
        for bit in (0, 7):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            file.write_bytes(flipped)
            refused(run_dir, capsys, "", command)
