"""Only data is unpickled from a run folder: a program in its place is never run.

The planted files pass their hash, which whoever can write one can write as well.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from pres_dist.errors import CheckpointError
from pres_dist.files import sha256
from pres_dist.inference import versions
from pres_dist.inference.tuned import read_checked
from pres_dist.training.checkpoint import Checkpoints


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.made),)


def test_the_payload_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "made")))
    assert (tmp_path / "made").exists()


@pytest.mark.attack(
    "programs planted in a checkpoint whose hashes are right",
    before="held",
    after="refused, not run",
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_checkpoint(tmp_path: Path, inside: bool) -> None:
    payload = Payload(tmp_path / "made")
    checkpoints = Checkpoints(tmp_path)
    weight = payload if inside else torch.ones(3)
    checkpoints.save(1, {"model": {"weight": weight}, "x": payload}, {})
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.open()
    assert not (tmp_path / "made").exists()


@pytest.mark.attack(
    "programs planted in the memory of an extended run",
    before="held",
    after="refused, not run",
)
@pytest.mark.parametrize("zipped", [False, True])
def test_the_memory_of_an_extended_run(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / versions.MEMORY
    torch.save({"rows": Payload(tmp_path / "made")}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"memory\.pt: must hold tensors and plain values"):
        read_checked(file, sha256(file))
    assert not (tmp_path / "made").exists()


def test_nothing_here_unpickles_without_limits() -> None:
    """`torch.load` always with weights_only, and `pickle` only where its names are listed."""
    package = Path(versions.__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        loads = text.count("torch.load(")
        assert text.count("weights_only=True") >= loads, file
        assert "allow_pickle=True" not in text, file
        if "import pickle" in text:
            assert file.name in ("plain_pickle.py", "saved_metadata.py"), file
